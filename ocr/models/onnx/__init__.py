"""ONNX files: import, fuse, fold, export, run."""
