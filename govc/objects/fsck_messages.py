"""What git's object checks are called, how grave each is by default, and how one repository sees that.

Not here: the checks themselves (`fsck_tree`, `fsck_commit`, `fsck_tag`, `fsck_gitmodules`, `fsck_attributes`).

    name       camelCase in print, lower case as a configuration key: missingEmail, receive.fsck.missingemail
    FATAL      an error that no configuration lowers
    ERROR      refuses a push
    WARN       a warning; an error when strict, as received objects are checked
    INFO       printed as a warning, strict or not
    IGNORE     silent

The messages on refs are part of the table because their names are valid keys; no push ever reports them.

Source: git-fsck "Fsck messages"; git's fsck.h, fsck.c fsck_set_msg_type.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

TREE_ENTRY_BYTES_MAX = 4096
"""Names longer than this are `largePathname`, unless configured (`warn:N`)."""


class Severity(Enum):
    """How grave a message is. Only ERROR, WARN and IGNORE can be configured."""

    FATAL = "fatal"
    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    IGNORE = "ignore"


class FsckMessage(Enum):
    """Every message of git, with its printed name and its default severity."""

    NUL_IN_HEADER = ("nulInHeader", Severity.FATAL)
    UNTERMINATED_HEADER = ("unterminatedHeader", Severity.FATAL)
    BAD_DATE = ("badDate", Severity.ERROR)
    BAD_DATE_OVERFLOW = ("badDateOverflow", Severity.ERROR)
    BAD_EMAIL = ("badEmail", Severity.ERROR)
    BAD_GPGSIG = ("badGpgsig", Severity.ERROR)
    BAD_HEADER_CONTINUATION = ("badHeaderContinuation", Severity.ERROR)
    BAD_HEAD_TARGET = ("badHeadTarget", Severity.ERROR)
    BAD_NAME = ("badName", Severity.ERROR)
    BAD_OBJECT_SHA1 = ("badObjectSha1", Severity.ERROR)
    BAD_PACKED_REF_ENTRY = ("badPackedRefEntry", Severity.ERROR)
    BAD_PACKED_REF_HEADER = ("badPackedRefHeader", Severity.ERROR)
    BAD_PARENT_SHA1 = ("badParentSha1", Severity.ERROR)
    BAD_REFERENT_NAME = ("badReferentName", Severity.ERROR)
    BAD_REF_CONTENT = ("badRefContent", Severity.ERROR)
    BAD_REF_FILETYPE = ("badRefFiletype", Severity.ERROR)
    BAD_REF_NAME = ("badRefName", Severity.ERROR)
    BAD_REF_OID = ("badRefOid", Severity.ERROR)
    BAD_TIMEZONE = ("badTimezone", Severity.ERROR)
    BAD_TREE = ("badTree", Severity.ERROR)
    BAD_TREE_SHA1 = ("badTreeSha1", Severity.ERROR)
    BAD_TYPE = ("badType", Severity.ERROR)
    DUPLICATE_ENTRIES = ("duplicateEntries", Severity.ERROR)
    GITATTRIBUTES_BLOB = ("gitattributesBlob", Severity.ERROR)
    GITATTRIBUTES_LARGE = ("gitattributesLarge", Severity.ERROR)
    GITATTRIBUTES_LINE_LENGTH = ("gitattributesLineLength", Severity.ERROR)
    GITATTRIBUTES_MISSING = ("gitattributesMissing", Severity.ERROR)
    GITMODULES_BLOB = ("gitmodulesBlob", Severity.ERROR)
    GITMODULES_LARGE = ("gitmodulesLarge", Severity.ERROR)
    GITMODULES_MISSING = ("gitmodulesMissing", Severity.ERROR)
    GITMODULES_NAME = ("gitmodulesName", Severity.ERROR)
    GITMODULES_PATH = ("gitmodulesPath", Severity.ERROR)
    GITMODULES_SYMLINK = ("gitmodulesSymlink", Severity.ERROR)
    GITMODULES_UPDATE = ("gitmodulesUpdate", Severity.ERROR)
    GITMODULES_URL = ("gitmodulesUrl", Severity.ERROR)
    MISSING_AUTHOR = ("missingAuthor", Severity.ERROR)
    MISSING_COMMITTER = ("missingCommitter", Severity.ERROR)
    MISSING_EMAIL = ("missingEmail", Severity.ERROR)
    MISSING_NAME_BEFORE_EMAIL = ("missingNameBeforeEmail", Severity.ERROR)
    MISSING_OBJECT = ("missingObject", Severity.ERROR)
    MISSING_SPACE_BEFORE_DATE = ("missingSpaceBeforeDate", Severity.ERROR)
    MISSING_SPACE_BEFORE_EMAIL = ("missingSpaceBeforeEmail", Severity.ERROR)
    MISSING_TAG = ("missingTag", Severity.ERROR)
    MISSING_TAG_ENTRY = ("missingTagEntry", Severity.ERROR)
    MISSING_TREE = ("missingTree", Severity.ERROR)
    MISSING_TYPE = ("missingType", Severity.ERROR)
    MISSING_TYPE_ENTRY = ("missingTypeEntry", Severity.ERROR)
    MULTIPLE_AUTHORS = ("multipleAuthors", Severity.ERROR)
    PACKED_REF_ENTRY_NOT_TERMINATED = ("packedRefEntryNotTerminated", Severity.ERROR)
    PACKED_REF_UNSORTED = ("packedRefUnsorted", Severity.ERROR)
    TREE_NOT_SORTED = ("treeNotSorted", Severity.ERROR)
    UNKNOWN_TYPE = ("unknownType", Severity.ERROR)
    ZERO_PADDED_DATE = ("zeroPaddedDate", Severity.ERROR)
    BAD_REFTABLE_TABLE_NAME = ("badReftableTableName", Severity.WARN)
    EMPTY_NAME = ("emptyName", Severity.WARN)
    FULL_PATHNAME = ("fullPathname", Severity.WARN)
    HAS_DOT = ("hasDot", Severity.WARN)
    HAS_DOTDOT = ("hasDotdot", Severity.WARN)
    HAS_DOTGIT = ("hasDotgit", Severity.WARN)
    LARGE_PATHNAME = ("largePathname", Severity.WARN)
    NULL_SHA1 = ("nullSha1", Severity.WARN)
    NUL_IN_COMMIT = ("nulInCommit", Severity.WARN)
    ZERO_PADDED_FILEMODE = ("zeroPaddedFilemode", Severity.WARN)
    BAD_FILEMODE = ("badFilemode", Severity.INFO)
    BAD_TAG_NAME = ("badTagName", Severity.INFO)
    EMPTY_PACKED_REFS_FILE = ("emptyPackedRefsFile", Severity.INFO)
    GITATTRIBUTES_SYMLINK = ("gitattributesSymlink", Severity.INFO)
    GITIGNORE_SYMLINK = ("gitignoreSymlink", Severity.INFO)
    GITMODULES_PARSE = ("gitmodulesParse", Severity.INFO)
    MAILMAP_SYMLINK = ("mailmapSymlink", Severity.INFO)
    MISSING_TAGGER_ENTRY = ("missingTaggerEntry", Severity.INFO)
    REF_MISSING_NEWLINE = ("refMissingNewline", Severity.INFO)
    SYMLINK_REF = ("symlinkRef", Severity.INFO)
    SYMREF_TARGET_IS_NOT_A_REF = ("symrefTargetIsNotARef", Severity.INFO)
    TRAILING_REF_CONTENT = ("trailingRefContent", Severity.INFO)
    EXTRA_HEADER_ENTRY = ("extraHeaderEntry", Severity.IGNORE)

    @property
    def printed(self) -> str:
        """The camelCase name."""
        return self.value[0]

    @property
    def default(self) -> Severity:
        """The severity when nothing is configured and the check isn't strict."""
        return self.value[1]


Report = Callable[[FsckMessage, bytes], bool]
"""Takes a message and its explanation; tells whether it is an error, upon which most checks of an object end."""

_BY_KEY = {message.printed.lower(): message for message in FsckMessage}
_CONFIGURABLE = {severity.value: severity for severity in (Severity.ERROR, Severity.WARN, Severity.IGNORE)}
_SIZE = re.compile(r"\s*([+-]?[0-9]{1,18})([kmg]?)", re.ASCII | re.IGNORECASE)
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def find_message(key: str) -> FsckMessage | None:
    """Return the message of a configuration key without its prefix, in lower case; None when git has none."""
    return _BY_KEY.get(key)


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"unable to parse max tree entry len: {text}")
    return int(match[1]) * _FACTORS[match[2].lower()]


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckPolicy:
    """Which findings refuse an object, which are only told, and which objects are let off.

    `severities` holds what was configured, only; `tree_entry_bytes_max` is the limit of `largePathname`.
    """

    severities: Mapping[FsckMessage, Severity] = field(default_factory=dict)
    skip_oids: frozenset[bytes] = frozenset()
    strict: bool = True
    tree_entry_bytes_max: int = TREE_ENTRY_BYTES_MAX

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[tuple[str, str]],
        *,
        skip_oids: frozenset[bytes] = frozenset(),
        strict: bool = True,
    ) -> "FsckPolicy":
        """Return the policy of (key without prefix in lower case, value) pairs; the last of a key wins.

        Raises ValueError, worded as git does, for an unknown key or severity, and for lowering a FATAL one.
        """
        severities: dict[FsckMessage, Severity] = {}
        size_max = TREE_ENTRY_BYTES_MAX
        for key, value in pairs:
            message = find_message(key)
            if message is None:
                raise ValueError(f"Unhandled message id: {key}")
            word = value
            if message is FsckMessage.LARGE_PATHNAME and ":" in value:
                word, _, size = value.partition(":")
                size_max = _parse_size(size)
            severity = _CONFIGURABLE.get(word)
            if severity is None:
                raise ValueError(f"Unknown fsck message type: '{word}'")
            if severity is not Severity.ERROR and message.default is Severity.FATAL:
                raise ValueError(f"Cannot demote {key} to {word}")
            severities[message] = severity
        return cls(severities=severities, skip_oids=skip_oids, strict=strict, tree_entry_bytes_max=size_max)

    def severity_of(self, message: FsckMessage) -> Severity:
        """Return what a finding counts as: ERROR, WARN or IGNORE."""
        configured = self.severities.get(message)
        if configured is not None:
            return configured
        if message.default is Severity.FATAL or (self.strict and message.default is Severity.WARN):
            return Severity.ERROR
        return Severity.WARN if message.default is Severity.INFO else message.default
