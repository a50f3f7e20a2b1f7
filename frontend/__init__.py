"""From what a user has (an ONNX file, a PyTorch module, a file of samples) to the Graph and its data."""
