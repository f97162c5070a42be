"""Renders text, Markdown and statistics to styled lines, without widgets."""
