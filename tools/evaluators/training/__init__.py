"""The evaluator that trains a candidate network."""
