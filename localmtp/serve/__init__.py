"""The OpenAI API over HTTP, in front of one loaded pair."""
