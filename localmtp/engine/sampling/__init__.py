"""Sampling, and the acceptance rules of speculative sampling."""
