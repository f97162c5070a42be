"""Saved conversations."""

from localmtp.history.store import History, SavedConversation

__all__ = ["History", "SavedConversation"]
