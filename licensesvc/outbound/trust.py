"""The certificate authorities that calls over HTTP trust: those of the system."""

import ssl
from functools import cache


@cache
def system_trust() -> ssl.SSLContext:
    """One strict context for all clients of the process: reading the authorities takes tens of milliseconds."""
    return ssl.create_default_context()
