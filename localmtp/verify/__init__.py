"""Evidence that drafting leaves a target's output unchanged, gathered on the user's machine."""
