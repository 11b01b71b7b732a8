"""Broken and malicious input, by the table: each with the line that it must be told in, or what must come of it."""
