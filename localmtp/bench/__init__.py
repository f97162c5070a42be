"""Measured speed: draft lengths by workloads, against no drafting, in one run."""
