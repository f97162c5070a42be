"""Hugging Face checkpoints: configuration, safetensors, tensor names, tokenizer."""
