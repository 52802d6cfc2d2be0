"""LoRA searches for causal language models."""
