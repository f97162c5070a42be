"""A session whose model runs in a child process.

libllama calls back into Python many times per pass, and every callback waits for the interpreter
lock while another thread draws. In its own process the model never waits, and a crash or an
out-of-memory kill does not lose the conversation.
"""

from localmtp.isolation.session import IsolatedSession, open_isolated

__all__ = ["IsolatedSession", "open_isolated"]
