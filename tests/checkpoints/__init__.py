"""Model folders in Hugging Face's format, and a hub to fetch them from, made without the code under test."""
