"""The chat: its cost next to `run`, its event loop, its pictures."""
