"""Hugging Face checkpoints: configuration, tensors, tokenizer, metadata."""
