"""Synthetic landscapes: the tasks on which the local ranker is pre-trained."""
