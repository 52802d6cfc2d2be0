"""Training samples for a ranking language model, and its fine-tuning."""
