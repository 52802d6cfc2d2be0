"""Synthetic landscapes: what the local ranker is pre-trained on."""
