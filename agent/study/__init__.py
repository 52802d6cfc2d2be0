"""A stored run: its trials, records, files and lock."""
