"""Polygons to shrink map and threshold map."""
