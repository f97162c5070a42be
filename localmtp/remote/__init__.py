"""Sessions with models on other OpenAI-compatible servers."""
