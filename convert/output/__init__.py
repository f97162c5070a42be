"""Quantized GGUF, written in one pass over the checkpoint."""
