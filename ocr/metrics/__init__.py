"""Polygons against truth to numbers."""
