"""Quantized GGUF files: types, metadata, writing, merging, and the check that a file loads."""
