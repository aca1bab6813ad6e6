"""govc: a memory-first Git server, and a library to read repositories with: `from govc import Repository`.

The library is imported when it is asked for, so that `import govc`, which every module of the server does, costs
nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from govc.library.repository import Repository as Repository

__all__ = ["Repository", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what is asked for by name (PEP 562)."""
    if name != "Repository":
        raise AttributeError(f"module 'govc' has no attribute {name!r}")
    from govc.library.repository import Repository

    return Repository
