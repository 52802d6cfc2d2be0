"""The prompts of language-model rankers and of the chat: they are made of plain data.

An architecture is its NCode. A history is a list of (NCode, score) pairs; higher scores are
better, and the score of a failed trial is None.
"""
