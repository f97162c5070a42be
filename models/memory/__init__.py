"""Memory: how much a pair needs, how much there is, how to place it."""
