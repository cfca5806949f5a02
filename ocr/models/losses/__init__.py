"""Losses: maps and targets to scalars."""
