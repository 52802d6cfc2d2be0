"""The LoRA space: a rank for each target module of a base model."""
