"""The model thread: queued requests, decoded in batches."""
