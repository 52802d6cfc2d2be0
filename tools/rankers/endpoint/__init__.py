"""The ranker that asks an OpenAI-compatible server."""
