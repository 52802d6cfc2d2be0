"""Searches driven by talking: the chat, its model, and the same without a person."""
