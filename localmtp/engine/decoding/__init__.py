"""The decode loop: draft, verify, accept, roll back."""
