"""Label formats with one label file for all images."""
