"""A model in a process of its own, for front ends whose drawing would keep it waiting.

libllama returns into Python many times a pass, and each time the thread that called it waits for
the interpreter while another thread draws. In a process of its own the model waits for nobody; and
one that the system ends takes no conversation with it.
"""

from localmtp.isolation.session import ApartSession, open_apart

__all__ = ["ApartSession", "open_apart"]
