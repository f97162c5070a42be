"""Commands and files that run a pair on another engine."""
