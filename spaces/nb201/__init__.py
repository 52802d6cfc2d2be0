"""The NAS-Bench-201 cell space."""
