"""Text in, text out: the prompts of language-model rankers and of the chat."""
