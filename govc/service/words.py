"""Requests that were answered before in the same words: clients of one kind, at one commit, send the same bytes.

What is kept dies with the snapshot (`Snapshot.derived`). The words are all that a request says beside the repository,
as far as it decides the answer; who may see what is in the context (`visibility`, namespace).
"""

from typing import Any

from govc.repo.snapshot import Snapshot
from govc.service.context import RequestContext

WORDS_BYTES_MAX = 64 << 10
KEYS_KEPT_MAX = 64
"""Requests whose bodies' keys are remembered, per snapshot."""

_KEYS = "keys of bodies by words"


def words_key(context: RequestContext, body: bytes) -> tuple[Any, ...]:
    """Return where in `derived` the whole answer to a v2 command lies."""
    return "words", context.namespace, context.visibility, body


def known_answer(snapshot: Snapshot, context: RequestContext, body: bytes) -> bytes | None:
    """Return the answer to a request that was answered before, None when it wasn't."""
    if context.protocol_version != 2:
        return None
    known: bytes | None = snapshot.derived.get(words_key(context, body))
    return known


def known_key(snapshot: Snapshot, context: RequestContext, body: bytes) -> bytes | None:
    """Return which cached body a fetch led to before, None when that isn't known."""
    known: bytes | None = snapshot.derived.get(_KEYS, {}).get(_of_fetch(context, body))
    return known


def remember_key(snapshot: Snapshot, context: RequestContext, body: bytes, key: bytes | None) -> None:
    """Remember which body these words lead to: the next client that uses them is asked nothing else."""
    if key is None or len(body) > WORDS_BYTES_MAX:
        return
    keys = snapshot.derived.setdefault(_KEYS, {})
    if len(keys) >= KEYS_KEPT_MAX:
        keys.clear()
    keys[_of_fetch(context, body)] = key


def _of_fetch(context: RequestContext, body: bytes) -> tuple[Any, ...]:
    return context.protocol_version, context.namespace, context.visibility, body
