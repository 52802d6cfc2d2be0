"""The DARTS cell space."""
