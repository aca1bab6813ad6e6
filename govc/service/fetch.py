"""The fetch conversation over one repository: what upload-pack does, as the protocol's steps in order.

    v0, v1      parse → check wants → shallow lines → haves and ACKs → pack
    v2          parse → check wants → acknowledgments → wanted-refs → shallow-info → pack

Both versions share everything but the framing around those steps. Requests are stateless: each POST holds all that the
server has to know, and any worker may answer it.

What was said before the pack, the pack's packets and the flush after it are one body, which may come from the cache of
bodies or be shared with others who ask the same (`bodies`). Whatever a caller may be refused is decided before that.

Errors before the pack are an `ERR` packet, errors within it are band 3, and the stream is then cut short, as git does,
so that no client takes half a pack for a whole one.

Source: gitprotocol-pack "Packfile Negotiation", gitprotocol-v2 "fetch", git's upload-pack.c; rows U0-20..71, V2-22..46.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TypeVar

from govc import phases
from govc.cache.bodies import BodyCache, Chunk
from govc.cache.flight import Piece
from govc.errors import GovcError, LimitExceeded
from govc.graph.commits import follow_tags
from govc.graph.interface import Work
from govc.graph.negotiate import Negotiation
from govc.graph.shallow import INFINITE_DEPTH, ShallowUpdate, deepen, deepen_by_range, deepen_relative
from govc.graph.walk import find_unreachable
from govc.limits.admission import Admission, Wish
from govc.limits.watch import NO_WATCH, LimitWatch
from govc.objects.types import COMMIT, TAG
from govc.protocol.bundle_uri import check_bundle_uri_args, encode_bundle_uri
from govc.protocol.errors import ProtocolError
from govc.protocol.fetch import (
    Command,
    encode_acknowledgments,
    encode_fatal,
    encode_line,
    encode_packfile_header,
    encode_shallow_info,
    encode_wanted_refs,
    parse_command_request,
)
from govc.protocol.fetch_request import FetchRequest, Step
from govc.protocol.object_info import iter_object_info, parse_object_info
from govc.protocol.pktline import FLUSH, encode_error
from govc.protocol.plain_fetch import parse_plain_fetch
from govc.protocol.sideband import PACKET_MAX_LARGE, Band, frame
from govc.protocol.upload_pack import Negotiator, encode_shallow_lines, parse_upload_pack_request
from govc.repo.object_options import read_tree_depth_max
from govc.repo.packing import PackPlan, PackProducer
from govc.repo.runtime import Breather, Runtime
from govc.repo.snapshot import Snapshot
from govc.service.admitting import CLONE, FETCH, admitted, iter_in_turn, wish_of
from govc.service.advertise import v2_features
from govc.service.begun import FIRST, LITTLE, UNDER_WAY_MAX, Begun
from govc.service.bodies import body_key, body_line
from govc.service.broken import ABORTING, BrokenStream, break_off
from govc.service.context import RequestContext, is_never_gone
from govc.service.elsewhere import BlobElsewhere, blobs_elsewhere, bundle_list
from govc.service.ls_refs import ls_refs
from govc.service.making import BodyMaker, Framing
from govc.service.pacing import paced, paced_runs
from govc.service.packfile_uris import choose_elsewhere, send_with_uris
from govc.service.policy import UploadPolicy
from govc.service.request_lines import RequestLines, not_our_ref
from govc.service.selection import FilterUnusable, select_objects
from govc.service.shown import ShownRefs
from govc.service.stored_clone import is_sent_stored, may_be_stored
from govc.service.wishes import has_queue, wants_blobs, wish_for
from govc.service.words import (
    KnownBody,
    is_first_in_words,
    known_answer,
    known_body,
    known_little,
    may_be_known,
    remember_body,
    remember_little,
    words_key,
)

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_V2_WORDS = "words of version 2"

WORDS_BYTES_MAX = 4096
WORDS_MAX = 256
"""How many questions of at most so many bytes are known by their words, per snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchTools:
    """What a fetch needs beside the snapshot: how to wait, who makes packs, the server's environment.

    `admission` None: whoever asks for a pack is given one at once. `haves_max`: in one request; 0: any number.
    """

    runtime: Runtime
    producer: PackProducer
    environ: Mapping[str, str]
    bodies: BodyCache = field(default_factory=lambda: BodyCache(None))
    admission: Admission | None = None
    haves_max: int = 0
    watch: LimitWatch = NO_WATCH


@dataclass(frozen=True, slots=True)
class _ShallowReply:
    """What to tell the client of its new boundary, and what that means for the pack."""

    update: ShallowUpdate
    boundary: frozenset[bytes]


class FetchSession:
    """One request."""

    def __init__(
        self,
        snapshot: Snapshot,
        context: RequestContext,
        tools: FetchTools,
        note_wants: Callable[[int], None] | None = None,
        sent: int = 0,
    ) -> None:
        """`sent`: so many bytes of the answer went out already, none of them pack data (`BodyCache.serve_known`)."""
        self._note_wants = note_wants
        self._sent = sent
        self.snapshot = snapshot
        self.context = context
        self.policy = snapshot.config.remembered(UploadPolicy.from_config)
        self.shown = ShownRefs(snapshot, "uploadpack", context.namespace)
        self._tools = tools
        self._history = snapshot.history()
        self._words = b""

    def _paced(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield the items, letting others run now and then: a request may hold 200,000 of them."""
        return paced(items, self._tools.runtime.pause)

    def _run(self, work: Work[_T]) -> _T:
        """Run graph work to its end, letting others run at its ticks. May switch."""
        pause = self._tools.runtime.pause
        while True:
            try:
                next(work)
            except StopIteration as stop:
                result: _T = stop.value
                return result
            pause()

    # v0 and v1

    def serve_v0(self, body: bytes) -> Iterator[Chunk]:
        """Answer one v0 or v1 request. What is wrong with it is told where git finds out: maybe after ACKs."""
        started = monotonic()
        self._words = body
        lines = self._request_lines()
        said: list[bytes] = []
        side_band = 0
        try:
            request = parse_upload_pack_request(
                body, self.snapshot.algo, allow_filter=self.policy.allow_filter, checks=lines
            )
            if request is None:
                return
            side_band = request.side_band
            self._check_haves(sum(isinstance(step, bytes) for step in request.steps))
            self._check_wants_v0(request)
            request.check_consistent()
            shallow = self._shallow_reply(request, lines)
            if request.deepens:
                said.append(encode_shallow_lines(shallow.update.shallow, shallow.update.unshallow))
            goes_on = False
            if request.wants:
                negotiation = self._negotiate_within(request, shallow.update)
                goes_on = self._answer_haves(request, negotiation, said)
            plan = self._plan(request, negotiation.common, shallow) if goes_on else None
            phases.note(phases.NEGOTIATE, started)
        except FilterUnusable as error:
            yield from self._give_up(b"".join(said), error, side_band)
        except (GovcError, ProtocolError) as error:
            yield b"".join(said) + self._fatal(error)
            return
        if plan is None:
            yield b"".join(said)
        else:
            yield from self._send_body(plan, side_band, b"".join(said), FLUSH if side_band else b"")

    def _request_lines(self) -> RequestLines:
        return RequestLines(self.shown, self.policy, self._tools.runtime.pause)

    def _negotiate_within(self, request: FetchRequest, update: ShallowUpdate) -> Negotiation:
        """Begin to negotiate over the history that the client will have: cut where its own ends and will end (v0, v1).

        In v2 git tells the boundary behind the ACKs, and negotiates over all there is.
        """
        edge = [number for number in map(self.snapshot.store.find, (*request.shallows, *update.shallow)) if number >= 0]
        if not edge:
            return Negotiation(self._history, self._paced(request.wants), self.snapshot.commit_view)
        wants = dict.fromkeys((*request.wants, *update.more_wants))
        return Negotiation(self._history.cut(edge), self._paced(wants))

    def _answer_haves(self, request: FetchRequest, negotiation: Negotiation, said: list[bytes]) -> bool:
        """Say the ACKs and NAKs, and return whether the pack follows."""
        negotiator = Negotiator(request.ack_mode, no_done=request.no_done)
        for step in self._paced(request.steps):
            if step is Step.FLUSH:
                text, goes_on = negotiator.flush(lambda: self._run(negotiation.is_ready()))
                said.append(text)
                return goes_on
            if step is Step.DONE:
                said.append(negotiator.done())
                return True
            assert isinstance(step, bytes)
            is_common = negotiation.add_have(step)
            is_alone = len(negotiation.common) == 1
            said.append(negotiator.have(step, is_common, lambda: self._run(negotiation.is_ready()), is_alone=is_alone))
        if request.fault is not None:
            raise request.fault
        return False

    def _check_wants_v0(self, request: FetchRequest) -> None:
        """Refuse what this caller may not want (U0-23..25): an unreachable object that no shown ref names."""
        store = self.snapshot.store
        if self.policy.allow_any:
            return
        tips = self._shown_tips()
        if self.policy.allow_tip or self.policy.allow_reachable:
            tips |= set(self.shown.iter_hidden_tips())
        # Only commits are asked for their ancestry: of trees and blobs git's own walk knows none, and lets them pass.
        others = {
            number: oid
            for oid in self._paced(request.wants)
            if oid not in tips and store.type_of(number := store.find(oid)) in (COMMIT, TAG)
        }
        if not others:
            return
        peeled = ((follow_tags(store, number)[1], oid) for number, oid in self._paced(others.items()))
        commits = {number: oid for number, oid in peeled if number >= 0 and store.type_of(number) == COMMIT}
        lost = self._run(find_unreachable(self._history, commits, self._commit_numbers(tips)))
        if lost:
            # As git, whose walk doesn't say which it was: the first that no ref names.
            raise not_our_ref(next(oid for oid in request.wants if oid not in tips))

    def _shown_tips(self) -> set[bytes]:
        key = ("shown tips", self.context.namespace)
        known = self.snapshot.derived.get(key)
        if known is None:
            known = {ref.oid for ref in self._paced(self.shown.iter_refs())}
            head = self.shown.head()
            if head.oid is not None:
                known.add(head.oid)
            if self.shown.is_complete:
                self.snapshot.derived[key] = known
        return set(known)

    def _commit_numbers(self, oids: Iterable[bytes]) -> list[int]:
        """Peel to commits; what is no commit reaches none."""
        store = self.snapshot.store
        numbers = []
        for oid in self._paced(oids):
            peeled = self.snapshot.table.peeled(oid, self.snapshot.peel) or oid
            number = store.find(peeled)
            if number >= 0 and store.type_of(number) == COMMIT:
                numbers.append(number)
        return numbers

    # v2

    def serve_v2(self, body: bytes) -> Iterator[Chunk]:
        """Answer one v2 command."""
        self._words = body
        commands, keys = self._v2_words()
        plain = parse_plain_fetch(body, self.snapshot.algo, commands=commands, keys=keys)
        if plain is not None:
            yield from self._fetch_v2(plain)
            return
        try:
            command = parse_command_request(
                body, self.snapshot.algo.name, commands=commands, keys=keys, tick=Breather(self._tools.runtime)
            )
            if command is None:
                return
            if command.name != b"fetch" and command.fault is not None:
                raise command.fault
            if command.name == b"ls-refs":
                yield self._remember_words(body, command.args)
                return
            if command.name == b"object-info":
                request = parse_object_info(paced_runs(command.args, self._tools.runtime.pause))
                yield b"".join(self._paced(iter_object_info(request, self.snapshot.algo, self._find_size)))
                return
            if command.name == b"bundle-uri":
                check_bundle_uri_args(command.args)
                yield encode_bundle_uri(bundle_list(self.snapshot.config))
                return
        except (GovcError, ProtocolError) as error:
            yield self._fatal(error)
            return
        yield from self._fetch_v2(command)

    def _v2_words(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """Return the commands and keys that a request may have: what the configuration says."""
        known: tuple[frozenset[bytes], frozenset[bytes]] | None = self.snapshot.derived.get(_V2_WORDS)
        if known is None:
            features = v2_features(self.snapshot, self.context, self._tools.environ)
            known = self.snapshot.derived[_V2_WORDS] = (features.commands, features.request_keys)
        return known

    def _remember_words(self, body: bytes, args: list[bytes]) -> bytes:
        """Return the refs, and keep the answer under the very words of the question if it is kept at all."""
        answer, is_kept = ls_refs(self.snapshot, self.context.namespace, args, self._tools.runtime)
        derived = self.snapshot.derived
        if is_kept and len(body) <= WORDS_BYTES_MAX:
            count = derived.get("words", 0)
            if count < WORDS_MAX:
                derived["words"] = count + 1
                derived[words_key(self.context, body)] = answer
        return answer

    def _find_size(self, oid: bytes) -> int | None:
        number = self.snapshot.store.find(oid)
        return self.snapshot.store.size_of(number) if number >= 0 else None

    def _fetch_v2(self, asked: Command | FetchRequest) -> Iterator[Chunk]:
        """Answer a fetch: its lines, or what they were found to say."""
        started = monotonic()
        lines = self._request_lines()
        head: list[bytes] = []
        try:
            blobs: Sequence[BlobElsewhere] = blobs_elsewhere(self.snapshot.config, self.snapshot.algo)
            request = lines.read(asked, has_uris=bool(blobs))
            sideband_all = request.sideband_all
            self._check_haves(len(request.haves))
            wanted_refs = lines.wanted_refs
            if wanted_refs:
                wants = (*request.wants, *(oid for oid, _ in wanted_refs))
                request = replace(request, wants=tuple(dict.fromkeys(wants)))
            if not request.wants and not request.wait_for_done:
                return
            negotiation = Negotiation(self._history, self._paced(request.wants), self.snapshot.commit_view)
            if request.haves and not request.done:
                acks = [oid for oid in self._paced(request.haves) if negotiation.add_have(oid)]
                ready = not request.wait_for_done and self._run(negotiation.is_ready())
                head.append(encode_acknowledgments(acks, ready=ready, sideband_all=sideband_all))
                if not ready:
                    phases.note(phases.NEGOTIATE, started)
                    yield head[0]
                    return
            else:
                for oid in self._paced(request.haves):
                    negotiation.add_have(oid)
            if wanted_refs:
                head.append(encode_wanted_refs(wanted_refs, sideband_all=sideband_all))
            tells_shallow = request.deepens or bool(request.shallows or self.snapshot.shallow)
            if tells_shallow:
                head.append(encode_line(b"shallow-info\n", sideband_all=sideband_all))
            request.check_consistent()
            shallow = self._shallow_reply(request, lines)
            if tells_shallow:
                update = shallow.update
                head.append(encode_shallow_info(update.shallow, update.unshallow, sideband_all=sideband_all))
            plan = self._plan(request, negotiation.common, shallow)
            phases.note(phases.NEGOTIATE, started)
        except FilterUnusable as error:
            head.append(encode_packfile_header(sideband_all=sideband_all))
            yield from self._give_up(b"".join(head), error, PACKET_MAX_LARGE)
        except (GovcError, ProtocolError) as error:
            yield b"".join(head) + self._fatal(error, sideband_all=lines.is_sideband_all)
            return
        if sideband_all and request.packfile_uris and not plan.selection.sparse:  # patterns are for a helper
            blobs = choose_elsewhere(blobs, request.packfile_uris)
            with admitted(self._tools.admission, self._wish(plan)):
                if head:
                    yield b"".join(head)
                yield from self._send_pack_and_uris(plan, blobs)
            return
        head.append(encode_packfile_header(sideband_all=sideband_all))
        yield from self._send_body(plan, request.side_band, b"".join(head), FLUSH)

    # Common to all versions

    def _check_haves(self, count: int) -> None:
        if self._tools.haves_max and count > self._tools.haves_max:
            raise LimitExceeded("haves_max", self._tools.haves_max, count)

    def _shallow_reply(self, request: FetchRequest, lines: RequestLines) -> _ShallowReply:
        """Compute the boundary that the client will have. Raises NoCommitsSelected."""
        nothing = ShallowUpdate([], [], [], [])
        history = self._history
        if request.deepen_since is not None or request.deepen_not:
            work = deepen_by_range(
                history, request.wants, request.shallows, since=request.deepen_since, exclude=lines.excluded
            )
        elif request.depth and request.deepen_relative:
            work = deepen_relative(history, self._shown_tips(), request.depth, request.shallows)
        elif request.depth:
            work = deepen(history, request.wants, request.depth, request.shallows)
        elif self.snapshot.shallow and self.context.protocol_version == 2:
            work = deepen(history, request.wants, INFINITE_DEPTH, request.shallows)
        else:
            return _ShallowReply(nothing, frozenset())
        update = self._run(work)
        return _ShallowReply(update, frozenset(update.shallow))

    def _plan(self, request: FetchRequest, common: list[bytes], shallow: _ShallowReply) -> PackPlan:
        """Return what decides the pack: only what this caller may have. Raises FilterUnusable. May switch."""
        selection = self._run(select_objects(request.filter, self.snapshot))
        if self._note_wants is not None:
            self._note_wants(len(request.wants))
        return PackPlan(
            wants=tuple(dict.fromkeys((*request.wants, *shallow.update.more_wants))),
            haves=tuple(dict.fromkeys((*common, *shallow.update.more_haves))),
            client_shallow=frozenset(request.shallows),
            boundary=shallow.boundary,
            selection=selection,
            include_tags=self._tag_candidates() if request.include_tag else {},
            thin=request.thin_pack,
            ofs_delta=request.ofs_delta,
            progress=bool(request.side_band) and not request.no_progress,
            tree_depth_max=read_tree_depth_max(self.snapshot.config),
        )

    def _send_body(self, plan: PackPlan, side_band: int, head: bytes, tail: bytes) -> Iterator[Chunk]:
        body = self._iter_body(plan, side_band, head, tail)
        gitdir = self.snapshot.layout.gitdir
        return break_off(body, self.context, gitdir, side_band, has_begun=self._sent > 0)

    def _iter_body(self, plan: PackPlan, side_band: int, head: bytes, tail: bytes) -> Generator[Chunk, None, None]:
        """Yield the head, the pack in the frames that the client asked for, and the tail."""
        framing = Framing(side_band=side_band, head=head, tail=tail)
        tools = self._tools
        maker = BodyMaker(self.snapshot, plan, framing, tools.producer, tools.bodies, tools.runtime.call_blocking)
        make = maker.make

        def produce() -> Iterator[Piece]:
            # The production is nobody's: who began it may hang up while it waits for a place, and others follow it.
            wish = self._wish(plan)._replace(is_gone=is_never_gone)
            return iter_in_turn(self._tools.admission, wish, begun.take if begun is not None else make)

        begun: Begun | None = None
        try:
            if plan.haves or (not self._has_queue and wants_blobs(self.snapshot, plan)):
                # A little answer needs no place, so nobody waits to find out whether it is one.
                if tools.admission is not None:
                    tools.admission.check(FETCH)
                if self._has_queue:
                    begun = Begun(make) if Begun.under_way < UNDER_WAY_MAX else None
                else:
                    is_first = is_first_in_words(self.snapshot, self.context, self._words)
                    begun = Begun(make, FIRST if is_first else LITTLE)
            is_little = begun is not None and begun.is_whole
            if begun is not None and is_little and not self.snapshot.is_partial:
                answer = b"".join(piece for piece in begun.take() if isinstance(piece, bytes))
                if self._may_be_known(plan):
                    remember_little(self.snapshot, self.context, self._words, answer)
                yield from tools.bodies.serve_made(answer[min(self._sent, len(head)) :])
                return
            if begun is not None and not is_little and self._has_queue:
                # It needs a place, or shares the production of somebody who has one: never both.
                begun.close()
                begun = None
            key = None if is_little else body_key(self.snapshot, self.context, plan, (side_band, head, tail))
            size = sum(pack.size for pack in self.snapshot.store.packs) if key is not None else 0
            if key is not None:
                maker.line = body_line(self.snapshot, self.context, plan, side_band)
                if self._may_be_known(plan):
                    remember_body(self.snapshot, self.context, self._words, KnownBody(key, side_band, size))
            maker.may_be_stored = may_be_stored(self.snapshot, plan, side_band)
            is_stored = maker.may_be_stored and is_sent_stored(self.snapshot, has_queue=self._has_queue)
            wish = replace(
                wish_for(KnownBody(key, side_band, size), self.policy, self.context, has_queue=self._has_queue),
                produce=begun.take if begun is not None and is_little else produce,
                head=head,
                line=maker.line,
                note=maker.note,
                produce_stored=maker.make_stored if is_stored else None,
            )
            yield from tools.bodies.serve(wish, self._sent)
        finally:
            if begun is not None:
                begun.close()

    def _may_be_known(self, plan: PackPlan) -> bool:
        return may_be_known(self.snapshot, self._words, plan.wants, self._shown_tips)

    def _send_pack_and_uris(self, plan: PackPlan, blobs: Sequence[BlobElsewhere]) -> Iterator[bytes]:
        """Yield the sections packfile-uris and packfile, and the flush."""
        try:
            yield from send_with_uris(self.snapshot, self._history, plan, blobs, self._run, self._tools.runtime)
        except GovcError as error:
            log.error("%s: %s: fetch failed: %s", self.context.request_id, self.snapshot.layout.gitdir, error)
            yield encode_fatal(ABORTING, sideband_all=True)
            raise BrokenStream(str(error)) from error
        yield FLUSH

    @property
    def _has_queue(self) -> bool:
        return has_queue(self._tools.admission)

    def _wish(self, plan: PackPlan) -> Wish:
        return wish_of(self.context, FETCH if plan.haves else CLONE, self.snapshot.layout.gitdir)

    def _tag_candidates(self) -> dict[bytes, bytes]:
        key = ("tags", self.context.namespace)
        known = self.snapshot.derived.get(key)
        if known is None:
            known = {
                ref.oid: ref.peeled
                for ref in self._paced(self.shown.iter_refs(b"refs/tags/", peel=self.snapshot.peel))
                if ref.peeled is not None
            }
            if self.shown.is_complete:
                self.snapshot.derived[key] = known
        candidates: dict[bytes, bytes] = known
        return candidates

    def _give_up(self, head: bytes, error: GovcError, side_band: int) -> Iterator[bytes]:
        """Say what was to come before the pack, that there can be no pack, and why; then break off, as git does."""
        log.warning("%s: %s: %s", self.context.request_id, self.snapshot.layout.gitdir, error)
        if side_band:
            head += frame(Band.PROGRESS, f"fatal: {error.public_text}\n".encode("utf-8", "replace"), side_band)
            head += frame(Band.ERROR, ABORTING.encode("ascii"), side_band)
        if head:
            yield head
        raise BrokenStream(str(error)) from error

    def _fatal(self, error: GovcError | ProtocolError, *, sideband_all: bool = False) -> bytes:
        """Return the packet that ends the reply, and say why in the log."""
        log.warning("%s: %s: %s", self.context.request_id, self.snapshot.layout.gitdir, error)
        if isinstance(error, LimitExceeded):
            self._tools.watch.refused(error.limit_name)
        text = error.public_text if isinstance(error, GovcError) else getattr(error, "text", str(error))
        if sideband_all:
            return encode_fatal(text, sideband_all=True)
        return encode_error(text)


def serve_upload_pack(
    snapshot: Snapshot,
    context: RequestContext,
    body: bytes,
    tools: FetchTools,
    note_wants: Callable[[int], None] | None = None,
) -> Iterator[Chunk]:
    """Answer one POST git-upload-pack. Yields framed bytes; closing the generator cancels the work. May switch.

    `note_wants` is told how many objects are wanted, once a pack is to be sent.
    """
    known = known_answer(snapshot, context, body)
    if known is not None:
        yield known
        return
    # So are whole answers to fetches; who counts wants has to read them.
    little = known_little(snapshot, context, body) if note_wants is None else None
    if little is not None:
        yield from tools.bodies.serve_made(little, is_hit=True)
        return
    sent = 0
    known_before = known_body(snapshot, context, body) if note_wants is None else None
    if known_before is not None:
        policy = snapshot.config.remembered(UploadPolicy.from_config)
        wish = wish_for(known_before, policy, context, has_queue=has_queue(tools.admission))
        chunks = tools.bodies.serve_known(wish)
        left = yield from break_off(chunks, context, snapshot.layout.gitdir, known_before.side_band)
        if left is None:
            return
        sent = left
    try:
        session = FetchSession(snapshot, context, tools, note_wants, sent)
    except GovcError as error:
        yield encode_error(error.public_text)
        return
    if context.protocol_version == 2:
        yield from session.serve_v2(body)
    else:
        yield from session.serve_v0(body)
