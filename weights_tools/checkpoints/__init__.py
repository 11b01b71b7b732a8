"""What is done with checkpoints that exist: read in ranges, never a whole file at once, and never pickle."""
