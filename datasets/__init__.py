"""Data sets of photos and masks: finding, checking, augmenting and batching them."""
