"""Drafters other than Gemma's assistant: heads, smaller models, copies from the context."""
