"""What a run has found: the incumbent, the front, and how both are shown."""
