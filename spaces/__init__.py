"""What is searched: spaces, NCodes, subspaces, trials and their history; tables."""
