"""Where samples come from: files, synthetic receipts, simulated photographs, unlabelled images."""
