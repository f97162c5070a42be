"""The model thread: queued requests, decoded in a batch."""
