"""Acceptance of sampled drafts, and answers compared token by token."""
