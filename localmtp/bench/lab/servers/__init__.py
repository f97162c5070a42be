"""HTTP servers under load, under faults, and compared with llama.cpp's."""
