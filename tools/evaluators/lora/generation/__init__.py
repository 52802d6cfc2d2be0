"""LoRA searches for image generation."""
