"""govc: a memory-first Git server, and a library to read repositories with: `from govc import Repository`.

The library is imported when it is asked for, so that `import govc`, which every module of the server does, costs
nothing. Nor does it, or what indexing a pack takes, import `typing`: with all that this imports it takes as long as
Python's own start, in every process that begins for one pack. Type checkers take the name TYPE_CHECKING for true.
"""

TYPE_CHECKING = False

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
