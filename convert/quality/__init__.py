"""Checks of converted files: they load, and how much quality quantization costs."""
