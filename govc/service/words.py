"""Requests that were answered before in the same words: clients of one kind, at one commit, send the same bytes.

What is kept dies with the snapshot (`Snapshot.derived`). The words are all that a request says beside the repository,
as far as it decides the answer; who may see what is in the context (`visibility`, namespace).
"""

from collections.abc import Callable, Iterable, Set
from typing import Any, NamedTuple

from govc.odb.store import LOOSE_NUMBER_FIRST
from govc.repo.snapshot import Snapshot
from govc.service.context import RequestContext

WORDS_BYTES_MAX = 64 << 10
KEYS_KEPT_MAX = 64
"""Requests whose bodies' keys are remembered, per snapshot."""

LITTLE_BYTES_MAX = 32 << 10
LITTLE_BYTES_KEPT_MAX = 1 << 20
"""Little answers to fetches, which lie in no cache of bodies, are kept in memory: each, and all of a snapshot."""

ASKED_KEPT_MAX = 1024
"""Fetches of which it is known that they were asked for, per snapshot."""

_KEYS = "keys of bodies by words"
_ASKED = "hashes of words of fetches"
_LITTLE, _LITTLE_BYTES = "little answers by words", "bytes of little answers"


def words_key(context: RequestContext, body: bytes) -> tuple[Any, ...]:
    """Return where in `derived` the whole answer to a v2 command lies."""
    return "words", context.namespace, context.visibility, body


def known_answer(snapshot: Snapshot, context: RequestContext, body: bytes) -> bytes | None:
    """Return the answer to a request that was answered before, None when it wasn't."""
    if context.protocol_version != 2:
        return None
    known: bytes | None = snapshot.derived.get(words_key(context, body))
    return known


class KnownBody(NamedTuple):
    """The body that a fetch leads to, as far as sending it goes. `side_band`: the size of a packet. `key` None:
    it is shared with nobody.
    """

    key: bytes | None
    side_band: int
    expected_bytes: int


def known_body(snapshot: Snapshot, context: RequestContext, body: bytes) -> KnownBody | None:
    """Return which cached body a fetch led to before, None when that isn't known."""
    known: KnownBody | None = snapshot.derived.get(_KEYS, {}).get(_of_fetch(context, body))
    return known


def remember_body(snapshot: Snapshot, context: RequestContext, body: bytes, known: KnownBody) -> None:
    """Remember which body these words lead to: the next client that uses them is asked nothing else."""
    if len(body) > WORDS_BYTES_MAX:
        return
    keys = snapshot.derived.setdefault(_KEYS, {})
    if len(keys) >= KEYS_KEPT_MAX:
        keys.clear()
    keys[_of_fetch(context, body)] = known


def may_be_known(snapshot: Snapshot, body: bytes, wants: Iterable[bytes], find_tips: Callable[[], Set[bytes]]) -> bool:
    """Tell whether the next fetch in these words needs no look at what it wants, as long as the snapshot is the same.

    A loose object that no ref names may be pruned, and no snapshot sees that. `find_tips`: what refs name.
    """
    if len(body) > WORDS_BYTES_MAX:
        return False
    find = snapshot.store.find
    others = {oid for oid in wants if not 0 <= find(oid) < LOOSE_NUMBER_FIRST}
    return not others or others <= find_tips()


def known_little(snapshot: Snapshot, context: RequestContext, body: bytes) -> bytes | None:
    """Return the little answer to a fetch in these words, None when it isn't known."""
    known: bytes | None = snapshot.derived.get(_LITTLE, {}).get(_of_fetch(context, body))
    return known


def remember_little(snapshot: Snapshot, context: RequestContext, body: bytes, answer: bytes) -> None:
    """Keep a little answer: many clients of one kind that stand at one commit ask for the same."""
    size = len(answer) + len(body)
    if size > LITTLE_BYTES_MAX:
        return
    kept = snapshot.derived.setdefault(_LITTLE, {})
    if snapshot.derived.get(_LITTLE_BYTES, 0) + size > LITTLE_BYTES_KEPT_MAX:
        kept.clear()
        snapshot.derived[_LITTLE_BYTES] = 0
    kept[_of_fetch(context, body)] = answer
    snapshot.derived[_LITTLE_BYTES] = snapshot.derived.get(_LITTLE_BYTES, 0) + size


def is_first_in_words(snapshot: Snapshot, context: RequestContext, body: bytes) -> bool:
    """Tell whether no fetch came in these words before, as far as that is known; note that one did."""
    asked: set[int] = snapshot.derived.setdefault(_ASKED, set())
    key = hash(_of_fetch(context, body))
    if key in asked:
        return False
    if len(asked) >= ASKED_KEPT_MAX:
        asked.clear()
    asked.add(key)
    return True


def _of_fetch(context: RequestContext, body: bytes) -> tuple[Any, ...]:
    return context.protocol_version, context.namespace, context.visibility, body
