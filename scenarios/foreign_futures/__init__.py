"""A future belongs to a loop: made elsewhere, set elsewhere, awaited elsewhere."""
