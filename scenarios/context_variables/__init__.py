"""Context variables across tasks, nested runs, loops, threads, executors and callbacks."""
