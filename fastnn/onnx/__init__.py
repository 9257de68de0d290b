"""Networks as ONNX files: read, trained on, and written."""
