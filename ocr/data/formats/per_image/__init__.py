"""Label formats with one label file per image."""
