"""Backbones: image batch to features at several strides."""
