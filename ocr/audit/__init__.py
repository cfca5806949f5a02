"""What a labelled set is worth before a network is trained on it: figures, faults, copies, a learning curve."""
