"""Fine-tuning of a causal language model as a ranker."""
