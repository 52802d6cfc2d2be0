"""A space of transformers."""
