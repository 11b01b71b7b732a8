"""Laws: what holds for every model and every prompt, tried on drawn ones."""
