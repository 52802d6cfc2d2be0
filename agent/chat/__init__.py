"""Searches driven by conversation: the chat, its model, and tasks without a user."""
