"""Sweeps: a study that workers share, the cards that each takes, and the ranking of what was trained."""
