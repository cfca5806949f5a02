"""Training and testing of a Differentiable Binarization text detector on receipts."""
