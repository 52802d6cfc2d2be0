"""LoRA searches: an adapter a trial on a base that never changes."""
