"""Reproduce event-loop bugs: one async test function, every release, every Python."""

__version__ = "0.1.0"
