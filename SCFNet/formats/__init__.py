"""Files of weights and graphs, read without running what is in them: pickles, PyTorch's, ONNX's."""
