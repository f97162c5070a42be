"""Hugging Face checkpoints of Gemma 4 and its drafters, to quantized GGUF."""
