"""Converted models on the Hugging Face hub: their card, and getting them there."""
