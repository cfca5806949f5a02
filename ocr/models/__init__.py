"""Batch to maps to polygons, and the loss."""
