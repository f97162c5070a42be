"""Run Gemma 4 locally with multi-token prediction."""

__version__ = "0.1.0"
