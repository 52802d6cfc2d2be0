"""Language models: OpenAI-compatible servers, and Hugging Face models on disk."""
