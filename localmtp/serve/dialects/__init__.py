"""Other APIs: OpenAI's Responses and Anthropic's Messages, read into chat requests."""
