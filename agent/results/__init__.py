"""What a run has found: the incumbent, the front, and how they are shown."""
