"""Probability map to polygons."""
