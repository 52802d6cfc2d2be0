"""Run files and training files: their settings, and what is built from them."""
