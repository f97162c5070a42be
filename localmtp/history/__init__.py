"""Saved conversations."""

from localmtp.history.store import History, Saved

__all__ = ["History", "Saved"]
