"""Sharing converted models on the Hugging Face hub: model card and upload."""
