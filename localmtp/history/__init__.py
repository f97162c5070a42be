"""Saved conversations."""

from localmtp.history.store import History, Saved, default_path

__all__ = ["History", "Saved", "default_path"]
