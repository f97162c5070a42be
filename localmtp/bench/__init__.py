"""Measures decoding speed by draft length and workload, and the speedup over no drafting."""
