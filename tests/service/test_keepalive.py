"""While a pack is being made, a side-banded client hears an empty packet now and then; others hear nothing."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from govc.odb.cache import BaseCache
from govc.protocol.pktline import FLUSH
from govc.repo.helper import QUIET
from govc.repo.repository import Repository, Surroundings
from govc.repo.runtime import PLAIN
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.service.fetch import FetchTools, serve_upload_pack

KEEPALIVE = b"0005\x01"


class SlowProducer:
    """Says nothing three times, for `seconds` each, beside a pack. The clock is its own."""

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = seconds
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def produce(self, _snapshot, _plan, quiet_seconds):
        assert quiet_seconds < 1  # it is asked often, so that one that nobody wants any more ends soon
        for item in (QUIET, QUIET, b"PACK", QUIET, b"more"):
            self.now += self.seconds if item is QUIET else 0
            yield item


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "r.git"
    env = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    script = "commit refs/heads/main\ncommitter C <c@d> 1600000000 +0000\ndata 1\nx\n"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], env=env, check=True)
    subprocess.run(["git", "fast-import", "--quiet"], input=script.encode(), cwd=path, env=env, check=True)
    return path


def fetch(path: Path, version: int, words: str, producer: SlowProducer) -> bytes:
    environ = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
    around = Surroundings(environ=environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
    snapshot = Repository(str(path), around).snapshot()
    oid = snapshot.table.resolve(b"refs/heads/main")
    assert oid is not None
    want = b"want " + oid.hex().encode() + words.encode() + b"\n"
    context = RequestContext(service=UPLOAD_PACK, protocol_version=version)
    tools = FetchTools(runtime=PLAIN, producer=producer, environ=environ)  # type: ignore[arg-type]
    if version == 2:
        lines = [b"command=fetch\n", b"0001", want, b"done\n", FLUSH]
    else:
        lines = [want, FLUSH, b"done\n"]
    body = b"".join(line if line in (FLUSH, b"0001") else b"%04x%b" % (len(line) + 4, line) for line in lines)
    return b"".join(serve_upload_pack(snapshot, context, body, tools))


@pytest.mark.rows("U0-59", "V2-44", "CF-10")
@pytest.mark.parametrize(("version", "words"), [(0, " side-band-64k"), (1, " side-band"), (2, "")])
def test_silence_becomes_empty_packets_in_their_place(
    repository: Path, version: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = fetch(repository, version, words, SlowProducer(5.0, monkeypatch))
    assert answer.endswith(KEEPALIVE * 2 + b"0009\x01PACK" + KEEPALIVE + b"0009\x01more" + FLUSH)
    answer = fetch(repository, version, words, SlowProducer(4.0, monkeypatch))
    assert answer.endswith(KEEPALIVE + b"0009\x01PACK0009\x01more" + FLUSH)


@pytest.mark.rows("U0-59", "CF-10")
def test_the_setting_is_in_seconds_and_zero_turns_it_off(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, seconds, count in (("2", 2.0, 3), ("2", 0.5, 0), ("0", 3000.0, 0), ("-1", 3000.0, 0)):
        subprocess.run(["git", "config", "uploadpack.keepAlive", value], cwd=repository, check=True)
        answer = fetch(repository, 0, " side-band-64k", SlowProducer(seconds, monkeypatch))
        assert answer.count(KEEPALIVE) == count


@pytest.mark.rows("U0-56", "U0-59")
def test_without_a_side_band_there_is_nothing_to_say_it_with(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(repository, 0, "", SlowProducer(5.0, monkeypatch)) == b"0008NAK\nPACKmore"
