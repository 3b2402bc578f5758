"""Several threads and one loop: who wakes whom, who waits for whom."""
