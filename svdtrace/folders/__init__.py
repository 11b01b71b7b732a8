"""Any result's folder: written, read back, and questioned in SQL."""
