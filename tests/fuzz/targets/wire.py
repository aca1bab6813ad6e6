"""What arrives on the wire: pkt-lines, requests of every version, pushes, certificates, filters, a hook's answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from govc.protocol import ls_refs
from govc.protocol import push_certificate as certificates
from govc.protocol.bundle_uri import check_bundle_uri_args
from govc.protocol.capabilities import V2Features
from govc.protocol.errors import LocalProtocolError, RemoteProtocolError
from govc.protocol.fetch import parse_command_request, parse_fetch_args
from govc.protocol.ls_refs import parse_ls_refs
from govc.protocol.object_filter import find_banned_filter, parse_filter
from govc.protocol.object_info import iter_object_info, parse_object_info
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm
from govc.protocol.pktline import MAX_PACKET, NEED_DATA, Control, PktLineDecoder, iter_packets
from govc.protocol.proc_receive import RESULTS_MAX, ProcReceive, matches_any, parse_pattern
from govc.protocol.receive_pack import (
    Command,
    CommandStatus,
    PushRequest,
    PushRequestParser,
    RefReport,
    encode_report,
)
from govc.protocol.refname import check_refname_format, is_safe_refname, is_storable_refname
from govc.protocol.sideband import Band, frame
from govc.protocol.text import find_c_integer, quote_line
from govc.protocol.upload_archive import parse_archive_request
from govc.protocol.upload_pack import AckMode, Negotiator, Step, parse_upload_pack_request
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.lowered import lowered

ALGOS = (SHA1, SHA1, SHA256)


def algo_of(draw: Draw) -> HashAlgorithm:
    return draw.choice(ALGOS)


def hex_oid(draw: Draw, algo: HashAlgorithm) -> bytes:
    """The digits of an object id, mostly; few different ones, so that they meet."""
    kind = draw.randrange(4)
    oid = algo.zero_hex if kind == 0 else b"%02x" % draw.randrange(6) * (algo.hex_size // 2)
    if kind == 3:
        oid = draw.randbytes(algo.oid_size).hex().encode()
    return draw.raw(oid.upper() if draw.chance(0.05) else oid)


def packet(draw: Draw, line: bytes) -> bytes:
    """A packet of a line, mostly with an LF and mostly of the right length."""
    line = draw.raw(line)
    if draw.chance(0.9):
        line += b"\n"
    line = line[: MAX_PACKET - 4]
    return b"%04x" % draw.number(len(line) + 4, 16) + line


def special(draw: Draw, right: bytes = b"0000") -> bytes:
    return draw.pick(right, b"0000", b"0001", b"0002", b"0003", b"0004", b"", b"00", b"000g")


def refname(draw: Draw) -> bytes:
    names = (b"refs/heads/main", b"refs/heads/a/b", b"refs/tags/v1", b"HEAD", b"refs/heads/\xc3\xa9", b"refs/changes/1")
    return draw.word(*names)


# Packets


def make_packets(draw: Draw) -> tuple[bytes, list[bytes]]:
    lines = [packet(draw, draw.word(b"", b"a line", b"x" * 2000)) for _ in range(draw.randrange(8))]
    body = b"".join(draw.shuffle_some([*lines, special(draw)]))
    body = draw.spoil(body) if draw.chance(0.3) else body
    return body, draw.split(body)


def run_packets(data: tuple[bytes, list[bytes]]) -> None:
    """Both readers see the same packets, however the bytes arrive, and refuse at the same byte."""
    body, pieces = data
    whole: list[bytes | Control] = []
    refusal = None
    try:
        whole.extend(iter_packets(body))
    except RemoteProtocolError as error:
        refusal = str(error)
        # what was yielded before is kept: extend appends as it goes
    decoder = PktLineDecoder()
    seen: list[bytes | Control] = []
    ours = None
    try:
        for piece in pieces:
            decoder.receive_data(piece)
            while (event := decoder.next_event()) is not NEED_DATA:
                seen.append(event)
        decoder.close()
    except RemoteProtocolError as error:
        ours = str(error)
    assert (seen, ours) == (whole, refusal)
    for item in whole:
        if isinstance(item, bytes):
            assert len(quote_line(item)) < 1100
    if refusal is not None:
        raise RemoteProtocolError(refusal)


def make_bands(draw: Draw) -> tuple[Band, bytes, int]:
    return draw.choice(list(Band)), draw.randbytes(draw.choice((0, 1, 5, 995, 996, 70000))), draw.choice((1000, 65520))


def run_bands(data: tuple[Band, bytes, int]) -> None:
    band, payload, size = data
    packets = list(iter_packets(frame(band, payload, size)))
    assert all(isinstance(item, bytes) and item[0] == band and len(item) + 4 <= size for item in packets)
    assert payload == b"".join(item[1:] for item in packets if isinstance(item, bytes))


# Fetches


def deepen_lines(draw: Draw, algo: HashAlgorithm) -> list[Callable[[], bytes]]:
    return [
        lambda: b"shallow " + hex_oid(draw, algo),
        lambda: b"deepen %d" % draw.number(3, 64),
        lambda: b"deepen " + draw.word(b"0x10", b"010", b" 7", b"+5", b"-5", b"1_0", b"2147483647", b"99999999999999"),
        lambda: b"deepen-since %d" % draw.number(1700000000, 64),
        lambda: b"deepen-not " + refname(draw),
        lambda: b"filter " + filter_spec(draw),
    ]


V0_WORDS = (
    b"multi_ack_detailed no-done side-band-64k thin-pack ofs-delta deepen-since deepen-not agent=git/2.40",
    b"multi_ack side-band include-tag filter no-progress deepen-relative",
    b"filter side-band-64k agent=x agent=y",
    b"",
)


def make_upload_pack(draw: Draw) -> tuple[bytes, HashAlgorithm, bool]:
    algo = algo_of(draw)
    lines = []
    for number in range(draw.randrange(4)):
        words = b" " + draw.word(*V0_WORDS) if number == 0 or draw.broken() else b""
        lines.append(packet(draw, b"want " + hex_oid(draw, algo) + words))
    more = deepen_lines(draw, algo)
    lines += [packet(draw, line) for line in draw.some(more, 0, 3)]
    lines.append(special(draw))
    for _ in range(draw.randrange(4)):
        lines += [packet(draw, b"have " + hex_oid(draw, algo)) for _ in range(draw.randrange(3))]
        lines.append(draw.pick(b"", special(draw), packet(draw, b"ERR gone")))
    lines.append(draw.choice((packet(draw, b"done"), b"0000", b"")))
    body = b"".join(draw.shuffle_some(lines))
    return (draw.spoil(body) if draw.chance(0.1) else body), algo, draw.chance(0.8)


def run_upload_pack(data: tuple[bytes, HashAlgorithm, bool]) -> None:
    body, algo, allow_filter = data
    request = parse_upload_pack_request(body, algo, allow_filter=allow_filter)
    if request is None:
        return
    assert request.deepens in (True, False)
    hash(request)
    negotiator = Negotiator(request.ack_mode, no_done=request.no_done)
    for at, step in enumerate(request.steps):
        if step is Step.FLUSH:
            negotiator.flush(lambda at=at: at % 2 == 0)
        elif step is Step.DONE:
            negotiator.done()
        else:
            negotiator.have(step, step[0] % 2 == 0, lambda at=at: at % 3 == 0)
    request.check_consistent()
    if request.fault is not None:
        raise request.fault


def make_negotiation(draw: Draw) -> tuple[AckMode, bool, list[tuple[int, bool, bool]]]:
    steps = [(draw.randrange(5), draw.chance(0.5), draw.chance(0.5)) for _ in range(draw.randrange(12))]
    return draw.choice(list(AckMode)), draw.chance(0.5), steps


def run_negotiation(data: tuple[AckMode, bool, list[tuple[int, bool, bool]]]) -> None:
    mode, no_done, steps = data
    negotiator = Negotiator(mode, no_done=no_done)
    for kind, is_common, is_ready in steps:
        if kind < 3:
            negotiator.have(bytes([kind]) * 20, is_common, lambda is_ready=is_ready: is_ready)
        elif kind == 3:
            negotiator.flush(lambda is_ready=is_ready: is_ready)
        else:
            negotiator.done()
        assert negotiator.has_common in (True, False)


def fetch_args(draw: Draw, algo: HashAlgorithm) -> list[bytes]:
    makers: list[Callable[[], bytes]] = [
        lambda: b"want " + hex_oid(draw, algo),
        lambda: b"have " + hex_oid(draw, algo),
        lambda: b"want-ref " + refname(draw),
        lambda: b"packfile-uris " + draw.word(b"https", b"http,https", b""),
        lambda: draw.choice((b"done", b"thin-pack", b"ofs-delta", b"no-progress", b"include-tag", b"deepen-relative")),
        lambda: draw.choice((b"wait-for-done", b"sideband-all", b"unknown", b"")),
        *deepen_lines(draw, algo),
    ]
    return draw.some(makers, 0, 9)


def command_args(draw: Draw, name: bytes, algo: HashAlgorithm) -> list[bytes]:
    if name == b"ls-refs":
        words: list[Callable[[], bytes]] = [
            lambda: draw.choice((b"peel", b"symrefs", b"unborn")),
            lambda: b"ref-prefix " + refname(draw),
        ]
        return draw.some(words, 0, 5)
    if name == b"object-info":
        words = [lambda: draw.choice((b"size", b"type")), lambda: b"oid " + hex_oid(draw, algo)]
        return draw.some(words, 0, 5)
    return fetch_args(draw, algo) if name == b"fetch" else draw.some([lambda: draw.word(b"x")], 0, 1)


def make_v2(draw: Draw) -> tuple[bytes, HashAlgorithm, int]:
    algo = algo_of(draw)
    name = draw.choice((b"fetch", b"fetch", b"ls-refs", b"object-info", b"bundle-uri"))
    head = [packet(draw, b"command=" + draw.pick(name, b"push", b"", b"fetch", name + b" "))]
    keys: list[Callable[[], bytes]] = [
        lambda: b"agent=" + draw.word(b"git/2.40.0", b""),
        lambda: b"object-format=" + draw.pick(algo.name.encode(), b"sha1", b"sha256", b"md5", b""),
        lambda: draw.choice((b"object-format", b"server-option=x", b"session-id=1", b"promisor-remote=a", b"ERR no")),
        lambda: draw.word(b"agent=a"),
    ]
    head += [packet(draw, b"object-format=" + algo.name.encode())] if draw.chance(0.9) else []
    head += [packet(draw, line) for line in draw.some(keys, 0, 3)] if draw.chance(0.6) else []
    lines = [*draw.shuffle_some(head), special(draw, b"0001")]
    lines += draw.shuffle_some([packet(draw, line) for line in command_args(draw, name, algo)])
    lines.append(special(draw))
    body = b"".join(lines)
    return (draw.spoil(body) if draw.chance(0.1) else body), algo, draw.getrandbits(6)


def run_v2(data: tuple[bytes, HashAlgorithm, int]) -> None:
    body, algo, bits = data
    features = V2Features(
        algo=algo,
        agent=b"govc",
        object_info=bool(bits & 1),
        bundle_uri=bool(bits & 2),
        session_id=b"s" if bits & 4 else b"",
        promisor_remote=b"p" if bits & 8 else b"",
    )
    command = parse_command_request(body, algo.name, commands=features.commands, keys=features.request_keys)
    if command is None:
        return
    assert command.client_agent is not None
    if command.name == b"ls-refs":
        with lowered(*[(ls_refs, "PREFIX_COUNT_MAX", 2)][: bits >> 5]):
            request = parse_ls_refs(command.args)
            assert len(request.prefixes) < ls_refs.PREFIX_COUNT_MAX
    elif command.name == b"object-info":
        known = {bytes([n]) * algo.oid_size: n for n in range(3)}
        for piece in iter_object_info(parse_object_info(command.args), algo, known.get):
            assert len(piece) <= MAX_PACKET
    elif command.name == b"bundle-uri":
        check_bundle_uri_args(command.args)
    else:
        every = bool(bits & 16)
        fetched = parse_fetch_args(
            command.args,
            algo,
            allow_filter=every,
            allow_ref_in_want=every,
            allow_sideband_all=every,
            allow_packfile_uris=every,
        )
        hash(fetched)
        fetched.check_consistent()
    if command.fault is not None:
        raise command.fault


# Filters, archives, names, numbers


def filter_spec(draw: Draw, depth: int = 0) -> bytes:
    sizes = (b"0", b"1k", b"10M", b"1g", b"0x10", b"18446744073709551615", b"18446744073709551616", b"17179869184g")
    makers: list[Callable[[], bytes]] = [
        lambda: b"blob:none",
        lambda: b"blob:limit=" + draw.word(*sizes),
        lambda: b"tree:" + draw.word(*sizes),
        lambda: b"sparse:oid=" + draw.word(b"main:sparse"),
        lambda: draw.choice((b"sparse:path=x", b"auto", b"", b"combine:")),
        lambda: b"object:type=" + draw.word(b"blob", b"tree", b"commit", b"tag"),
    ]
    if depth < 20 and draw.chance(0.3 if depth else 0.5):
        parts = [filter_spec(draw, depth + 1) for _ in range(draw.randrange(1, 4))]
        quoted = [part.replace(b"%", b"%25").replace(b"+", b"%2b") for part in parts]
        return draw.raw(b"combine:" + b"+".join(quoted) + draw.pick(b"", b"+", b"++"))
    return draw.raw(draw.choice(makers)())


def run_filter(spec: bytes) -> None:
    parsed = parse_filter(spec)
    hash(parsed)
    find_banned_filter(parsed, lambda kind: kind != "sparse:oid", 5)
    find_banned_filter(parsed, lambda kind: True, None)


def make_archive_request(draw: Draw) -> bytes:
    arguments = [
        b"argument " + draw.word(b"--format=tar", b"HEAD", b"--prefix=a/", b"--", b"path")
        for _ in range(draw.choice((0, 1, 2, 3, 63, 64, 65)))
    ]
    return b"".join(draw.shuffle_some([*(packet(draw, line) for line in arguments), special(draw)]))


def make_name(draw: Draw) -> bytes:
    parts = [draw.word(b"a", b"main", b"heads", b".lock", b"x.lock", b"b" * 255) for _ in range(draw.randrange(4))]
    return draw.raw(draw.pick(b"refs/", b"", b"/") + b"/".join(parts))


def run_name(name: bytes) -> None:
    one, two = check_refname_format(name, allow_onelevel=True), check_refname_format(name)
    assert one or not two
    if is_safe_refname(name) or is_safe_refname(name, deleting=True):
        parts = name.split(b"/")
        assert parts[0] == b"refs" and not {b"", b".", b".."} & set(parts) and b"\0" not in name
    is_storable_refname(name)
    find_c_integer(name)
    assert len(quote_line(name)) <= 1100


def make_integer(draw: Draw) -> bytes:
    shown = draw.choice((b"%d", b"0x%x", b"0%o", b" +%d", b"-%d"))
    return draw.raw(shown % abs(draw.number(draw.choice((0, 5, 1 << 40)), 70)))


def run_integer(text: bytes) -> None:
    value = find_c_integer(text)
    if value is not None and text.isdigit() and not text.startswith(b"0"):
        assert value == int(text)


# Pushes


def command_line(draw: Draw, algo: HashAlgorithm) -> bytes:
    blank = draw.pick(b" ", b"", b"  ", b"\t")
    return hex_oid(draw, algo) + blank + hex_oid(draw, algo) + b" " + refname(draw)


def certificate_lines(draw: Draw, algo: HashAlgorithm) -> list[bytes]:
    nonce = certificates.make_nonce(b"seed", algo, draw.number(1700000000, 40))
    lines = [
        b"certificate version 0.1",
        b"pusher A <a@b> 1700000000 +0000",
        b"pushee https://x/y",
        b"nonce " + draw.raw(draw.pick(nonce, b"0-", b"1-", b"x", b"9" * 25 + b"-aa")),
        *[b"push-option " + draw.word(b"a=b", b"") for _ in range(draw.randrange(3))],
        draw.pick(b"", b"x"),
        *[command_line(draw, algo) for _ in range(draw.randrange(3))],
        *draw.pick([b"-----BEGIN PGP SIGNATURE-----", b"abc", b"-----END PGP SIGNATURE-----"], [], [b"-----BEGIN"]),
    ]
    return draw.shuffle_some(lines)


PUSH_WORDS = (
    b"report-status-v2 side-band-64k object-format=sha1 agent=git/2.40",
    b"report-status atomic push-options quiet session-id=1 object-format=sha256",
    b"push-options object-format=sha1",
    b"",
)


def make_push(draw: Draw) -> tuple[bytes, list[bytes], HashAlgorithm, bool]:
    algo = algo_of(draw)
    words = draw.word(*(words.replace(b"sha256", algo.name.encode()) for words in PUSH_WORDS))
    if not draw.broken():
        words = words.replace(b"object-format=sha1", b"object-format=" + algo.name.encode())
    lines = [packet(draw, b"shallow " + hex_oid(draw, algo)) for _ in range(draw.choice((0, 0, 0, 2)))]
    if draw.chance(0.35):
        lines.append(packet(draw, b"push-cert\0" + words))
        lines += [packet(draw, line) for line in certificate_lines(draw, algo)]
        lines.append(packet(draw, draw.pick(b"push-cert-end", b"")))
        if draw.broken():
            lines.append(packet(draw, command_line(draw, algo)))
    else:
        commands = [command_line(draw, algo) for _ in range(draw.randrange(4))]
        lines += [packet(draw, line + (b"\0" + words if n == 0 else b"")) for n, line in enumerate(commands)]
    lines = draw.shuffle_some(lines)
    lines.append(special(draw))
    if b"push-options" in words:
        lines += [packet(draw, draw.word(b"ci.skip", b"a=b", b"ERR x")) for _ in range(draw.randrange(3))]
        lines.append(special(draw))
    body = b"".join(lines) + draw.pick(b"PACK", b"", b"0000")
    body = draw.spoil(body) if draw.chance(0.1) else body
    return body, draw.split(body), algo, draw.chance(0.8)


def feed_push(pieces: list[bytes], algo: HashAlgorithm, allow: bool, limit: int) -> tuple[Any, bytes]:
    """The request, or git's words of a refusal, and what follows it."""
    parser = PushRequestParser(algo, command_bytes_max=limit, allow_atomic=allow, allow_push_options=allow)
    rest = b""
    with suppress(LocalProtocolError):
        parser.take_rest()
        raise AssertionError("something follows a request that hasn't come")
    try:
        for number, piece in enumerate(pieces):
            parser.receive_data(piece)
            event = parser.next_event()
            if isinstance(event, PushRequest):
                with suppress(LocalProtocolError):
                    parser.next_event()
                    raise AssertionError("the request came twice")
                parser.close()
                rest = parser.take_rest() + b"".join(pieces[number + 1 :])
                return event, rest
        parser.close()
    except RemoteProtocolError as error:
        return error.text, b""
    raise AssertionError("neither a request nor a refusal")


def run_push(data: tuple[bytes, list[bytes], HashAlgorithm, bool]) -> None:
    body, pieces, algo, allow = data
    limit = 1500 if allow else 300
    whole, rest = feed_push([body], algo, allow, limit)
    assert (whole, rest) == feed_push(pieces, algo, allow, limit)
    if isinstance(whole, str):
        raise RemoteProtocolError(whole)
    assert whole.options_agree in (True, False) and whole.wants_pack in (True, False)
    statuses = [
        CommandStatus(
            refname=command.refname,
            error=None if number % 2 else "no\nok refs/heads/forged",
            options=(RefReport(refname=b"refs/x", old=command.old, new=command.new, forced=True), RefReport())
            if not number % 3
            else (),
        )
        for number, command in enumerate(whole.commands)
    ]
    report = list(iter_packets(encode_report("ok", statuses, whole.report or 1)))
    assert report[-1] is Control.FLUSH and b"unpack ok\n" == report[0]
    if whole.signed is not None:
        judge_certificate(whole.signed, algo)


def judge_certificate(parsed: certificates.Certificate, algo: HashAlgorithm) -> None:
    assert parsed.signature_format in (None, "openpgp", "x509", "ssh")
    for seed, slop in ((b"seed", 0), (b"seed", 100), (b"", 0), (b"other", 5)):
        certificates.check_nonce(parsed.nonce, seed=seed, algo=algo, now_seconds=1700000050, slop_seconds_max=slop)


def make_certificate(draw: Draw) -> tuple[bytes, HashAlgorithm]:
    algo = algo_of(draw)
    text = b"\n".join(certificate_lines(draw, algo)) + draw.pick(b"\n", b"")
    return (draw.spoil(text) if draw.chance(0.3) else text), algo


def run_certificate(data: tuple[bytes, HashAlgorithm]) -> None:
    text, algo = data
    parsed = certificates.parse_certificate(text)
    assert parsed.payload + parsed.signature == text
    judge_certificate(parsed, algo)


# A proc-receive hook is a program of the admin's, but what it writes may come from a peer.


def make_hook(draw: Draw) -> tuple[list[bytes], bytes, HashAlgorithm, bool, bytes]:
    algo = algo_of(draw)
    names = (b"refs/for/main", b"refs/for/x", b"refs/heads/other", b"refs/unknown")
    results: list[Callable[[], bytes]] = [
        lambda: draw.choice((b"ok ", b"ng ", b"xx ")) + draw.word(*names) + draw.pick(b"", b" because", b" "),
        lambda: b"option refname " + refname(draw),
        lambda: b"option " + draw.choice((b"old-oid ", b"new-oid ")) + hex_oid(draw, algo),
        lambda: draw.choice((b"option forced-update", b"option fall-through", b"option x", b"option", b"ok", b"")),
    ]
    lines = [packet(draw, b"version=" + draw.word(b"1", b"0", b"2") + b"\0push-options atomic"), special(draw)]
    lines += [packet(draw, line) for line in draw.some(results, 0, 9)]
    lines.append(special(draw))
    body = b"".join(draw.shuffle_some(lines))
    body = draw.spoil(body) if draw.chance(0.1) else body
    patterns = draw.word(b"refs/for", b"ad!:refs/heads", b"m:refs/for/", b"!:x", b":")
    return draw.split(body), body, algo, draw.chance(0.5), patterns


def talk(pieces: list[bytes], algo: HashAlgorithm, options: bool) -> tuple[bytes, Any]:
    commands = [
        Command(algo.zero, b"\1" * algo.oid_size, b"refs/for/main"),
        Command(b"\1" * algo.oid_size, algo.zero, b"refs/for/x"),
        Command(b"\1" * algo.oid_size, b"\2" * algo.oid_size, b"refs/for/main"),
    ]
    machine = ProcReceive(
        algo,
        commands,
        push_options=(b"a", b"b") if options else None,
        atomic=options,
        other_names=[b"refs/heads/other"],
    )
    said = machine.first_bytes()
    for piece in pieces:
        said += machine.receive_data(piece)
    machine.close()
    assert machine.is_over and len(machine.outcomes) == len(commands) <= RESULTS_MAX
    return said, (machine.outcomes, machine.is_failed, machine.problem)


def run_hook(data: tuple[list[bytes], bytes, HashAlgorithm, bool, bytes]) -> None:
    pieces, body, algo, options, pattern = data
    assert talk(pieces, algo, options) == talk([body], algo, options)
    parsed = [parse_pattern(pattern)]
    for old, new in ((algo.zero, b"\1" * algo.oid_size), (b"\1" * algo.oid_size, algo.zero), (b"\1" * 20, b"\2" * 20)):
        matches_any(parsed, Command(old, new, b"refs/for/main"))


REMOTE = (RemoteProtocolError,)

TARGETS = (
    Target(
        name="packets",
        covers=(
            "govc.protocol.pktline:iter_packets,_parse_size,PktLineDecoder,strip_lf,check_not_error",
            "govc.protocol.text:quote_line",
        ),
        make=make_packets,
        run=run_packets,
        allowed=REMOTE,
        weight=10,
    ),
    Target(name="sideband", covers=("govc.protocol.sideband",), make=make_bands, run=run_bands, weight=0.3),
    Target(
        name="upload-pack",
        covers=(
            "govc.protocol.upload_pack",
            "govc.protocol.fetch_request",
            "govc.protocol.capabilities:parse_capability_list",
        ),
        make=make_upload_pack,
        run=run_upload_pack,
        allowed=REMOTE,
        weight=6,
    ),
    Target(
        name="negotiation",
        covers=("govc.protocol.upload_pack:Negotiator",),
        make=make_negotiation,
        run=run_negotiation,
        weight=8,
    ),
    Target(
        name="v2",
        covers=(
            "govc.protocol.fetch:parse_command_request,_parse_command_name,_take_capability,_check_object_format,_parse_args,"
            "parse_fetch_args,_parse_want,_take_want_ref,Command",
            "govc.protocol.ls_refs:parse_ls_refs",
            "govc.protocol.object_info",
            "govc.protocol.bundle_uri:check_bundle_uri_args",
            "govc.protocol.oid",
        ),
        make=make_v2,
        run=run_v2,
        allowed=REMOTE,
        weight=8,
    ),
    Target(
        name="filter",
        covers=("govc.protocol.object_filter",),
        make=filter_spec,
        run=run_filter,
        allowed=REMOTE,
        weight=8,
    ),
    Target(
        name="archive-request",
        covers=("govc.protocol.upload_archive:parse_archive_request",),
        make=make_archive_request,
        run=parse_archive_request,
        allowed=REMOTE,
    ),
    Target(name="refname", covers=("govc.protocol.refname",), make=make_name, run=run_name, weight=8),
    Target(
        name="c-integer", covers=("govc.protocol.text:find_c_integer",), make=make_integer, run=run_integer, weight=12
    ),
    Target(
        name="push",
        covers=("govc.protocol.receive_pack",),
        make=make_push,
        run=run_push,
        allowed=REMOTE,
        weight=5,
    ),
    Target(
        name="certificate",
        covers=("govc.protocol.push_certificate",),
        make=make_certificate,
        run=run_certificate,
        allowed=REMOTE,
        weight=4,
    ),
    Target(name="proc-receive", covers=("govc.protocol.proc_receive",), make=make_hook, run=run_hook, weight=2),
)
