"""Checks that cost time and are therefore off. Both are read once, when the package is imported."""

check_protected: bool = False
check_override: bool = False
