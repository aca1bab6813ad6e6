"""govc: a memory-first Git server."""

__version__ = "0.1.0"
