"""Search spaces, NCodes, subspaces, trials and their history, objectives, and tables."""
