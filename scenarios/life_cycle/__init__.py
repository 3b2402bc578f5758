"""Making, setting, running, stopping and closing loops, and what tasks and errors do meanwhile."""
