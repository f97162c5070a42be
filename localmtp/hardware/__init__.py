"""This machine: processor, memory, bandwidth."""
