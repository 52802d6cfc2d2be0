"""LoRA searches: each trial trains one adapter on a frozen base."""
