"""Executors: they run evaluations, in this process or in workers."""
