"""How to run a pair on another engine: the exact command or file, and what to expect of it."""
