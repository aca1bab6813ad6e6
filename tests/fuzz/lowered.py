"""Limits of the parsers, lowered for one input: what only a hundred megabytes would reach is met by a few bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from unittest import mock

Limit = tuple[ModuleType, str, int]
"""A module, the name of a limit in it, the value that it gets."""


@contextmanager
def lowered(*limits: Limit) -> Iterator[None]:
    """Set limits, and set them back."""
    with ExitStack() as patches:
        for module, name, value in limits:
            patches.enter_context(mock.patch.object(module, name, value))
        yield
