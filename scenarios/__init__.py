"""The library: one folder per family of event-loop bugs, real async test functions."""
