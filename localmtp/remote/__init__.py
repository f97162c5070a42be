"""Conversations with models that other OpenAI-compatible servers run."""
