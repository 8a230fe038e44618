"""Calls to addresses that somebody configured: webhook endpoints, relays, sandboxes. A leaf that any floor may import.

In: reading such a URL strictly (`targets`), which addresses are never called (`addresses`), a transport that connects to the very
address it has checked (`transport`), one bounded call (`client`). Out: who calls whom, when, and what about.
"""
