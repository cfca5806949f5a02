"""The Weights & Biases run: credentials, config, name, ending."""
