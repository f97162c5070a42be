"""Text in and out of tokens: chat templates, retokenization, detokenization."""
