"""Inference with MTP drafting: target, drafter, verification, events, statistics."""
