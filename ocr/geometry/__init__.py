"""Polygon arithmetic: normal form, areas, offsets, rasterising."""
