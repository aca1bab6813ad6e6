"""The check of a whole push: every commit, tree and tag on arrival, then the blobs that git itself reads.

    fsck = PushFsck(policy, algo)
    index_pack(..., visit=fsck.visit)        contents come once, in any order
    fsck.finish(read)                        .gitmodules and .gitattributes, from the pack or the store

Not here: the single checks, and whether linked objects exist (the connectivity check). As in git, the first object
with an error ends it: later objects aren't looked at, and the push is refused with the findings up to there. The
texts are for the peer: UTF-8, no control characters, of bounded size and number.

Source: git's fsck.c report, fsck_blobs, fsck_finish; builtin/index-pack.c; usage.c vreportf.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from govc.errors import LimitExceeded
from govc.objects.fsck_attributes import check_gitattributes
from govc.objects.fsck_commit import check_commit
from govc.objects.fsck_gitmodules import check_gitmodules
from govc.objects.fsck_messages import FsckMessage, FsckPolicy, Report, Severity
from govc.objects.fsck_tag import check_tag
from govc.objects.fsck_tree import SpecialBlobs, check_tree
from govc.objects.types import BLOB, COMMIT, TAG, TREE
from govc.protocol.oid import HashAlgorithm

FINDINGS_MAX = 1000
"""How many findings are kept; the others are counted."""
SPECIAL_BLOBS_MAX = 1_000_000
"""How many different .gitmodules and .gitattributes one push may name."""

_TEXT_BYTES_MAX = 4096
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")

Read = Callable[[bytes], tuple[int, bytes | None] | None]
"""Takes an oid; returns type (1 to 4) and content (None when it is too large), or None when it isn't there."""


class Finding(NamedTuple):
    """One finding. `severity` is ERROR or WARN; `text` is `object <hex>: <messageId>: <explanation>`."""

    oid: bytes
    message_id: str
    severity: Severity
    text: str

    @property
    def line(self) -> str:
        """What git prints, with its prefix and without an end of line."""
        return f"{'error' if self.severity is Severity.ERROR else 'warning'}: {self.text}"


class _BlobKind(NamedTuple):
    """One kind of special blob, and how its trouble is called."""

    name: bytes
    missing: FsckMessage
    not_blob: FsckMessage
    large: FsckMessage
    check: Callable[[bytes, Report], None]


_GITMODULES = _BlobKind(
    b".gitmodules",
    FsckMessage.GITMODULES_MISSING,
    FsckMessage.GITMODULES_BLOB,
    FsckMessage.GITMODULES_LARGE,
    check_gitmodules,
)
_GITATTRIBUTES = _BlobKind(
    b".gitattributes",
    FsckMessage.GITATTRIBUTES_MISSING,
    FsckMessage.GITATTRIBUTES_BLOB,
    FsckMessage.GITATTRIBUTES_LARGE,
    check_gitattributes,
)


class PushFsck:
    """The findings of one push, collected as its objects pass by."""

    def __init__(self, policy: FsckPolicy, algo: HashAlgorithm, *, findings_max: int = FINDINGS_MAX) -> None:
        self._policy = policy
        self._algo = algo
        self._findings_max = findings_max
        self._special = SpecialBlobs()
        self.findings: list[Finding] = []
        self.omitted_count = 0
        self.error_count = 0
        self.refusal: str | None = None

    @property
    def errors(self) -> list[Finding]:
        """The findings that refuse the push."""
        return [finding for finding in self.findings if finding.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are only told."""
        return [finding for finding in self.findings if finding.severity is Severity.WARN]

    def iter_lines(self) -> Iterator[str]:
        """Iterate over what git prints, in order, without ends of line; last the reason of a refusal."""
        for finding in self.findings:
            yield finding.line
        if self.refusal is not None:
            yield f"fatal: {self.refusal}"

    def visit(self, oid: bytes, type_number: int, content: bytes) -> None:
        """Check one commit, tree or tag, unless the push is refused already. Raises LimitExceeded."""
        if self.refusal is not None:
            return
        report = self._report_on(oid)
        if type_number == TREE:
            self._visit_tree(content, report)
        elif oid in self._policy.skip_oids:
            return
        elif type_number == COMMIT:
            check_commit(content, self._algo, report)
        elif type_number == TAG:
            check_tag(content, self._algo, report)
        elif type_number != BLOB:
            text = b"unknown type '%d' (internal fsck error)" % type_number
            report(FsckMessage.UNKNOWN_TYPE, text)
        if self.error_count:
            self.refusal = "fsck error in packed object"

    def finish(self, read: Read, *, missing_ok: bool = False) -> None:
        """Check the special blobs that the trees name. `missing_ok`: a promisor may hold what isn't there."""
        if self.refusal is not None:
            return
        special = self._special
        for kind, oids in ((_GITMODULES, special.gitmodules), (_GITATTRIBUTES, special.gitattributes)):
            for oid in sorted(oids):
                if oid not in self._policy.skip_oids:
                    self._check_blob(oid, kind, read(oid), missing_ok)
        if self.error_count:
            self.refusal = "fsck error in pack objects"

    def _visit_tree(self, content: bytes, report: Report) -> None:
        special = self._special
        check_tree(
            content,
            self._algo,
            report,
            special,
            strict=self._policy.strict,
            entry_bytes_max=self._policy.tree_entry_bytes_max,
        )
        count = len(special.gitmodules) + len(special.gitattributes)
        if count > SPECIAL_BLOBS_MAX:
            raise LimitExceeded("fsck special blobs", SPECIAL_BLOBS_MAX, count)

    def _check_blob(
        self, oid: bytes, kind: _BlobKind, found: tuple[int, bytes | None] | None, missing_ok: bool
    ) -> None:
        report = self._report_on(oid)
        if found is None:
            if not missing_ok:
                report(kind.missing, b"unable to read %s blob" % kind.name)
            return
        type_number, content = found
        if type_number != BLOB:
            report(kind.not_blob, b"non-blob found at %s" % kind.name)
        elif content is None:
            report(kind.large, b"%s too large to parse" % kind.name)
        else:
            kind.check(content, report)

    def _report_on(self, oid: bytes) -> Report:
        def report(message: FsckMessage, explanation: bytes) -> bool:
            severity = self._policy.severity_of(message)
            if severity is Severity.IGNORE or oid in self._policy.skip_oids:
                return False
            is_error = severity is Severity.ERROR
            self.error_count += is_error
            if len(self.findings) < self._findings_max or (is_error and self.error_count == 1):
                prefix = f"object {oid.hex()}: {message.printed}: "
                self.findings.append(Finding(oid, message.printed, severity, prefix + _printable(explanation)))
            else:
                self.omitted_count += 1
            return is_error

        return report


def _printable(explanation: bytes) -> str:
    """Return what git would show of a text: no control characters but tab and line feed, of bounded size."""
    return _CONTROL.sub(b"?", explanation[:_TEXT_BYTES_MAX]).decode("utf-8", "replace")
