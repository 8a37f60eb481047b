"""Prediction of many files: which they are, reading, the network and writing side by side."""
