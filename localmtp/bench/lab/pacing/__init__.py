"""Draft policies replayed on recorded traces, and pairs that are hard to pace."""
