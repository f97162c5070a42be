"""Distributions of whole vocabularies, where top-k does not limit them."""
