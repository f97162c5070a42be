"""Architectures that can be converted: one package for each, behind the interface in `base`."""
