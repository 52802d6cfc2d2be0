"""Text in, text out: the prompts of language-model rankers and of the chat.

What is rendered is plain data: an architecture is its NCode, a history a list of (NCode, score)
pairs, where more is better and None stands for a trial that failed.
"""
