"""Where a change to pacing is judged: traces of rounds, and policies replayed on them."""
