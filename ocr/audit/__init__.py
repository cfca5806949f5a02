"""Checks of a labelled set before training: statistics, label faults, near-duplicates, witness, learning curve."""
