"""Tests that pass without ever having run."""
