"""Markers that models write around thoughts and tool calls."""
