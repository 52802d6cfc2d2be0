"""Pre-training of the local ranker on synthetic landscapes."""
