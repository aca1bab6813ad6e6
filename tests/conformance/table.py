"""docs/conformance.md: one line per row of the drop-in table, and how it is kept true.

    | ID | importance | what | status | tests | remark |

The status and the remark are written by hand; the tests are filled in from the markers in the sources by

    python -m tests.conformance.table        (make conformance)

which keeps both and writes the sums. A row that nobody has judged says `no` and UNJUDGED; it becomes `yes` by itself
when a test carries it. A row shows at most TESTS_SHOWN_MAX tests and counts the others.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .markers import PROJECT, Carrier, Row, find_carriers, read_rows

TABLE_FILE = PROJECT / "docs" / "conformance.md"
STATUSES = ("yes", "partly", "no", "different on purpose")
TESTS_SHOWN_MAX = 3
MAY_DIFFER = frozenset(("RP-28", "HB-34"))
"""Rows that may be answered otherwise than git does: add one only with its reason in the table."""

UNJUDGED = "not shown by a test yet"
AREAS = {
    "HB": "HTTP surface",
    "U0": "upload-pack, protocol v0 and v1",
    "V2": "Protocol v2",
    "RP": "receive-pack",
    "FS": "Repository format on disk",
    "FK": "fsck of received objects",
    "CF": "Configuration",
    "SEC": "Limits and security",
}
_LINE = re.compile(
    r"\| ((?:HB|U0|V2|RP|FS|FK|CF|SEC)-\d+) \| ([MSR]) \| (.*)"
    r" \| (yes|partly|no|different on purpose) \| (.*) \| (.*) \|"
)
_STORY = """\
# Conformance

What git-http-backend, upload-pack and receive-pack do, row by row, and what govc does. M: any stock client or admin
meets it; S: should; R: rare.

- **yes**: it works, or is answered, as git does; the tests named compare with git itself or with a stated value.
- **partly**: the remark says what is missing, and what happens instead.
- **no**: not there; the remark says what happens instead.
- **different on purpose**: the remark says how, and why that is better.

The statuses and remarks are written by hand. `make conformance` fills in the tests from their markers
(`@pytest.mark.rows`); `make test` fails when an M or S row says yes and no test carries its ID, when a marker names a
row that isn't here, and when a named test is gone. Paths are relative to the project's folder.

On 2026-11-26 the tests of all 476 M and S rows were read one by one against their rows' full text, clause by clause:
does one fail when this breaks? For 410 rows they did; for 66 a clause was not looked at, or couldn't fail, and now is
(HB-07, HB-09, HB-12, HB-13, HB-16, HB-27, HB-32, HB-33, HB-34, HB-39, HB-40, HB-45, HB-46, HB-53, HB-54, HB-59,
HB-65, HB-67, HB-68, HB-72, HB-76, HB-84, U0-02, U0-20, U0-22, U0-44, U0-58, U0-60, U0-63, U0-64, V2-02, V2-05, V2-44,
V2-45, RP-16, RP-23, RP-26, RP-27, RP-29, RP-31, RP-40, RP-48, RP-56, RP-57, RP-61, RP-89, RP-98, FS-15, FS-26, FS-40,
FS-56, FS-58, FS-59, FS-63, FK-08, FK-49, FK-52, CF-05, CF-54, CF-74, SEC-01, SEC-02, SEC-28, SEC-37, SEC-43, SEC-45).
Three rows turned out to be wrong in the product and were mended (SEC-45, HB-46, FK-49 with FK-52). What is broken on
purpose to see tests fail: [broken-rows.md](broken-rows.md).
"""


class Line(NamedTuple):
    """One line of the table; `tests` as written."""

    row: Row
    status: str
    tests: str
    remark: str


def parse_table(text: str) -> list[Line]:
    """Return the lines of the table in a document. Raises ValueError at a line that is almost one."""
    out = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            if re.match(r"\| (HB|U0|V2|RP|FS|FK|CF|SEC)-", line):
                raise ValueError(f"not a line of the table: {line}")
            continue
        identifier, importance, title, status, tests, remark = (part.strip() for part in match.groups())
        out.append(Line(Row(identifier, importance, title.replace("\\|", "|")), status, tests, remark))
    return out


def group_by_row(carriers: Iterable[Carrier]) -> dict[str, list[str]]:
    """Return the labels of the tests of each row, without doubles, in order."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for carrier in carriers:
        found[carrier.row][carrier.label] = None
    return {row: list(labels) for row, labels in found.items()}


def shown_tests(labels: Sequence[str]) -> str:
    """Return the cell that names the tests."""
    shown = ", ".join(f"`{label}`" for label in labels[:TESTS_SHOWN_MAX])
    more = len(labels) - TESTS_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def named_tests(cell: str) -> list[str]:
    """Return the labels that such a cell names."""
    return re.findall(r"`([^`]+)`", cell)


def write_table(rows: Sequence[Row], old: Mapping[str, Line], tests: Mapping[str, Sequence[str]]) -> str:
    """Return the document: statuses and remarks of `old`, tests as the markers say."""
    lines = []
    for row in rows:
        known = old.get(row.identifier)
        labels = tests.get(row.identifier, ())
        if known is None or known.remark == UNJUDGED:
            known = Line(row, "yes", "", "") if labels else Line(row, "no", "", UNJUDGED)
        lines.append(Line(row, known.status, shown_tests(labels), known.remark))
    return _STORY + _sums(lines) + "".join(_section(prefix, lines) for prefix in AREAS)


def _sums(lines: Sequence[Line]) -> str:
    counts = Counter((line.row.importance, line.status) for line in lines)
    out = ["\n## Sums\n\n| | " + " | ".join(STATUSES) + " | all |\n|---|" + "---|" * (len(STATUSES) + 1) + "\n"]
    for importance in "MSR":
        numbers = [counts[importance, status] for status in STATUSES]
        out.append(f"| {importance} | " + " | ".join(map(str, [*numbers, sum(numbers)])) + " |\n")
    return "".join(out)


def _section(prefix: str, lines: Sequence[Line]) -> str:
    out = [f"\n## {AREAS[prefix]} ({prefix})\n\n| ID | | what | status | tests | remark |\n|---|---|---|---|---|---|\n"]
    for line in lines:
        row = line.row
        if row.identifier.startswith(f"{prefix}-"):
            title = row.title.replace("|", "\\|")
            cells = (row.identifier, row.importance, title, line.status, line.tests, line.remark)
            out.append("| " + " | ".join(cells) + " |\n")
    return "".join(out)


def main(path: Path = TABLE_FILE) -> None:
    """Write the table anew."""
    old = {line.row.identifier: line for line in parse_table(path.read_text(encoding="utf-8"))} if path.exists() else {}
    path.write_text(write_table(read_rows(), old, group_by_row(find_carriers())), encoding="utf-8")


if __name__ == "__main__":
    main()
