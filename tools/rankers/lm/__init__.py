"""A causal language model as ranker: candidates by their likelihood after the prompt."""
