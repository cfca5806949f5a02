"""Post-processing chosen on a labelled split."""
