"""Is a signature good, and whose is it? gpg, gpgsm and ssh-keygen know; they are run as git runs them.

    openpgp    gpg --keyid-format=long --status-fd=1 --verify SIGNATURE -          gpg.program, gpg.openpgp.program
    x509       gpgsm --status-fd=1 --verify SIGNATURE -                            gpg.x509.program
    ssh        ssh-keygen -Y find-principals -f ALLOWED -s SIGNATURE, then for     gpg.ssh.program,
               each -Y verify -n git -f ALLOWED -I PRINCIPAL -s SIGNATURE;         gpg.ssh.allowedSignersFile,
               nobody found: -Y check-novalidate -n git -s SIGNATURE               gpg.ssh.revocationFile

The verdict is a letter, as in `git log --format=%G?`: G good, B bad, E can't be checked (no key), X good but expired,
Y good by an expired key, R good by a revoked key, N no verdict. It is what hooks see of a signed push; nobody here
acts on it. `gpg.minTrustLevel` changes nothing of that (in git neither), but a value that it can't have is an error.

Source: git's gpg-interface.c; GnuPG's doc/DETAILS "Format of the --status-fd output"; ssh-keygen(1); rows RP-73, RP-74,
CF-80.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from govc.config.config import Config
from govc.config.values import BadConfigValue
from govc.repo.helper import Quiet
from govc.repo.hook_runner import Channel, Conversation, ProgramNotStarted

log = logging.getLogger(__name__)

VERIFY_SECONDS_MAX = 60.0
ANSWER_BYTES_MAX = 1 << 20
PRINCIPALS_MAX = 100

_PROGRAM_KEYS = {
    "gpg.program": "openpgp",
    "gpg.openpgp.program": "openpgp",
    "gpg.x509.program": "x509",
    "gpg.ssh.program": "ssh",
}
_PROGRAMS = {"openpgp": "gpg", "x509": "gpgsm", "ssh": "ssh-keygen"}
_TRUST_LEVELS = ("undefined", "never", "marginal", "fully", "ultimate")
_EXCLUSIVE = {
    b"GOODSIG": "G",
    b"BADSIG": "B",
    b"ERRSIG": "E",
    b"EXPSIG": "X",
    b"EXPKEYSIG": "Y",
    b"REVKEYSIG": "R",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureVerdict:
    """What is known of a signature: the letter, who (b"" unknown) and by which key (b"" unknown)."""

    status: str = "N"
    signer: bytes = b""
    key: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignaturePolicy:
    """The programs and files to check signatures with."""

    programs: Mapping[str, str]
    allowed_signers: str | None
    revocation_file: str | None

    @classmethod
    def from_config(cls, config: Config) -> "SignaturePolicy":
        """Read `gpg.*`. Raises BadConfigValue where git dies."""
        programs = dict(_PROGRAMS)
        for entry in config.entries:
            name = _PROGRAM_KEYS.get(entry.key)
            program = Config((entry,), config.home).get_path(entry.key) if name is not None else None
            if name is not None and program is not None:
                programs[name] = program
        _check_word(config, "gpg.format", tuple(_PROGRAMS))
        _check_word(config, "gpg.mintrustlevel", _TRUST_LEVELS, str.lower)
        return cls(
            programs=programs,
            allowed_signers=config.get_path("gpg.ssh.allowedsignersfile"),
            revocation_file=config.get_path("gpg.ssh.revocationfile"),
        )


def _check_word(config: Config, key: str, words: tuple[str, ...], fold: Callable[[str], str] = str) -> None:
    value = config.get(key)
    if value is not None and fold(value) not in words:
        entry = config.find_entry(key)
        assert entry is not None
        raise BadConfigValue(entry.source, entry.line, f"invalid value for '{key}': '{value}'")


Verifying = Generator[Quiet, None, SignatureVerdict]
"""Yields silences while a program works; returns the verdict."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    output: bytes
    errors: bytes


class SignatureChecker:
    """Checks signatures for one repository. `cwd` is its git folder, which relative paths of settings start from."""

    def __init__(self, policy: SignaturePolicy, *, cwd: str, environ: Mapping[str, str], quiet_seconds: float) -> None:
        self._policy = policy
        self._cwd = cwd
        self._environ = environ
        self._quiet_seconds = quiet_seconds

    def check(self, payload: bytes, signature: bytes, signature_format: str | None) -> Verifying:
        """Judge a detached signature over `payload`. May switch."""
        if signature_format is None:
            return SignatureVerdict()
        with _file_of(signature) as path:
            if signature_format == "ssh":
                return (yield from self._check_ssh(payload, path))
            options = ["--keyid-format=long"] if signature_format == "openpgp" else []
            program = [self._policy.programs[signature_format], *options]
            answer = yield from self._ask([*program, "--status-fd=1", "--verify", path, "-"], payload)
            return parse_gpg_status(answer.output)

    def _check_ssh(self, payload: bytes, path: str) -> Verifying:
        policy = self._policy
        program = policy.programs["ssh"]
        if policy.allowed_signers is None:
            log.error("gpg.ssh.allowedSignersFile needs to be configured and exist for ssh signature verification")
            return SignatureVerdict()
        allowed = ["-f", policy.allowed_signers]
        found = yield from self._ask([program, "-Y", "find-principals", *allowed, "-s", path], b"")
        if found.status and b"usage:" in found.errors:
            log.error("%s is too old to verify signatures", program)
            return SignatureVerdict()
        if found.status or not found.output:
            said = yield from self._ask([program, "-Y", "check-novalidate", "-n", "git", "-s", path], payload)
            return parse_ssh_answer(said.output + found.errors + said.errors)
        revoked = self._revocation_options()
        verdict = SignatureVerdict(status="B")
        for principal in found.output.replace(b"\r\n", b"\n").split(b"\n")[:PRINCIPALS_MAX]:
            if not principal:
                continue
            who = ["-I", os.fsdecode(principal)]
            said = yield from self._ask(
                [program, "-Y", "verify", "-n", "git", *allowed, *who, "-s", path, *revoked], payload
            )
            verdict = parse_ssh_answer(said.output + found.errors + said.errors)
            if said.status == 0 and said.output.startswith(b"Good"):
                break
        return verdict

    def _revocation_options(self) -> list[str]:
        path = self._policy.revocation_file
        if path is None:
            return []
        if not os.path.exists(os.path.join(self._cwd, path)):
            log.warning("ssh signing revocation file configured but not found: %s", path)
            return []
        return ["-r", path]

    def _ask(self, arguments: Sequence[str], stdin: bytes) -> Generator[Quiet, None, _Answer]:
        """Run a program; a program that can't be run has nothing to say."""
        heard = {Channel.REPLY: b"", Channel.OUTPUT: b""}
        try:
            talk = Conversation(
                arguments, cwd=self._cwd, environ=self._environ, splits_output=True, seconds_max=VERIFY_SECONDS_MAX
            )
        except ProgramNotStarted as error:
            log.error("cannot run %s: %s", arguments[0], error.reason)
            return _Answer(-1, b"", b"")
        with talk:
            talk.write((stdin,))
            talk.close_input()
            while talk.is_open:
                event = talk.wait(self._quiet_seconds)
                if isinstance(event, Quiet):
                    yield event
                elif len(heard[event.channel]) < ANSWER_BYTES_MAX:
                    heard[event.channel] += event.data
            while (status := talk.poll_status(self._quiet_seconds)) is None:
                yield Quiet.QUIET
        if status:
            log.info("%s: status %d: %r", arguments[0], status, heard[Channel.OUTPUT][:500])
        return _Answer(status, heard[Channel.REPLY], heard[Channel.OUTPUT])


@contextmanager
def _file_of(content: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(prefix=".govc_signature_") as file:
        file.write(content)
        file.flush()
        yield file.name


def parse_gpg_status(output: bytes) -> SignatureVerdict:
    """Read gpg's status lines. Two verdicts in one answer, or a trust that nobody knows, are "E" without a signer."""
    status, signer, key = "N", b"", b""
    has_verdict = False
    for line in output.split(b"\n"):
        if not line.startswith(b"[GNUPG:] "):
            continue
        word, _, rest = line[9:].partition(b" ")
        if word.startswith(b"TRUST_"):
            if word[6:].decode("ascii", "replace").lower() not in _TRUST_LEVELS:
                return SignatureVerdict(status="E")
        elif word in _EXCLUSIVE:
            if has_verdict:
                return SignatureVerdict(status="E")
            has_verdict = True
            status = _EXCLUSIVE[word]
            key, _, name = rest.partition(b" ")
            if word != b"ERRSIG":
                signer = name
    return SignatureVerdict(status=status, signer=signer, key=key)


def parse_ssh_answer(said: bytes) -> SignatureVerdict:
    """Read ssh-keygen's first line: `Good "git" signature [for PRINCIPAL] with TYPE key FINGERPRINT`, or it is bad."""
    line = said.strip().split(b"\n", 1)[0]
    good_for, good_with = b'Good "git" signature for ', b'Good "git" signature with '
    if line.startswith(good_for):
        signer, found, rest = line[len(good_for) :].rpartition(b" with ")
        if not found:
            return SignatureVerdict(status="B")
    elif line.startswith(good_with):
        signer, rest = b"", line[len(good_with) :]
    else:
        return SignatureVerdict(status="B")
    _, found, key = rest.partition(b"key ")
    return SignatureVerdict(status="G" if found else "B", signer=signer, key=key)
