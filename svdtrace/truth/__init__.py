"""Models whose circuit is known, and how much of it a method finds."""
