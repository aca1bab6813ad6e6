"""The arguments of git archive."""

from __future__ import annotations

import pytest

from govc.archive.options import ArchiveOptions, ArchiveRefused, parse_archive_options


def test_options_stand_anywhere_and_may_be_shortened() -> None:
    assert parse_archive_options([b"main", b"--form", b"zip", b"a", b"--pre=x/", b"-v", b"-7", b"--", b"-l"]) == (
        ArchiveOptions(format="zip", prefix=b"x/", level=7, verbose=True, arguments=(b"main", b"a", b"-l"))
    )


def test_no_takes_back() -> None:
    assert parse_archive_options([b"--prefix=x", b"--no-prefix", b"--verbose", b"--no-verbose", b"m"]) == (
        ArchiveOptions(arguments=(b"m",))
    )


@pytest.mark.rows("SEC-27", "HB-86")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "usage: git archive"),
        ([b"--list", b"x"], "extra command line parameter 'x'"),
        ([b"--remote", b"x", b"m"], "Unexpected option --remote"),
        ([b"-ox", b"m"], "Unexpected option --output"),
        ([b"--add-virtual-file=a:b", b"m"], "options '--add-file' and '--remote' cannot be used together"),
        ([b"--exec", b"x", b"m"], "the option '--exec' requires '--remote'"),
        ([b"--e", b"x"], "the option '--exec' requires '--remote'"),
        ([b"--nosuch"], "error: unknown option `nosuch'"),
        ([b"--format"], "error: option `format' requires a value"),
        ([b"--list=1"], "error: option `list' takes no value"),
        ([b"--no-mtime"], "error: unknown option `no-mtime'"),
        ([b"-x"], "error: unknown switch `x'"),
        ([b"-o"], "error: switch `o' requires a value"),
    ],
)
def test_refused(arguments: list[bytes], text: str) -> None:
    with pytest.raises(ArchiveRefused) as caught:
        parse_archive_options(arguments)
    assert caught.value.public_text.startswith(text)
