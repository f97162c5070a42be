"""Turns text into styled lines, without a widget in sight."""
