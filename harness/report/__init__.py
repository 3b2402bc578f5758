"""One model of what was seen, and a writer for each reader of it."""
