"""Data sets for training candidates."""
