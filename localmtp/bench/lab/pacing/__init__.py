"""Draft policies judged on recorded traces, and pairs that are made to be hard to pace."""
