"""This machine: processor, main memory, memory bandwidth."""
