"""A space of whole networks of inverted residual blocks."""
