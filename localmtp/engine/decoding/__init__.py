"""Draft, verify, accept, roll back: the decode loop and what it runs on."""
