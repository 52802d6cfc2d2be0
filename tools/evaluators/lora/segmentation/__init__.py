"""LoRA searches for image segmentation."""
