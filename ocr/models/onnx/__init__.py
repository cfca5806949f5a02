"""ONNX files: import, fuse, export, run."""
