"""How a synthetic receipt is laid out, printed and photographed."""
