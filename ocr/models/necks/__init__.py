"""Necks: features at several strides to one fused map."""
