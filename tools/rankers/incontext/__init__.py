"""The local ranker: a small transformer that reads a history as a set and scores candidates."""
