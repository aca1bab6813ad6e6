"""Mailmaps: the names and addresses that a project wants people to be known by.

    Proper Name <commit@address>
    <proper@address> <commit@address>
    Proper Name <proper@address> [Commit Name] <commit@address>

One a line; `#` at its beginning makes a comment, and a line that is none of these is passed over. Case doesn't count in
what is looked for. A later line wins over an earlier one, for what it says.

Source: gitmailmap.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_LINE = re.compile(rb"([^<\n]*)<([^>\n]*)>(?:([^<\n]*)<([^>\n]*)>)?")


@dataclass(slots=True)
class _Entry:
    """What is known of one address: what to show, and what to show for some names only."""

    name: bytes | None = None
    mail: bytes | None = None
    of_names: dict[bytes, tuple[bytes | None, bytes | None]] = field(default_factory=dict)


class Mailmap:
    """The lines of some mailmaps, later ones winning."""

    def __init__(self, texts: Iterable[bytes] = ()) -> None:
        self._entries: dict[bytes, _Entry] = {}
        for text in texts:
            for line in text.split(b"\n"):
                if not line.startswith(b"#"):
                    self._add(line)

    def _add(self, line: bytes) -> None:
        match = _LINE.match(line)
        if match is None:
            return
        name, mail, old_name, old_mail = match.groups()
        shown_name, shown_mail = name.strip() or None, mail.strip() if old_mail is not None else None
        entry = self._entries.setdefault((mail if old_mail is None else old_mail).strip().lower(), _Entry())
        known_by = (old_name or b"").strip()
        if known_by:
            entry.of_names[known_by.lower()] = (shown_name, shown_mail)
            return
        entry.name = entry.name if shown_name is None else shown_name
        entry.mail = entry.mail if shown_mail is None else shown_mail

    def find(self, name: bytes, mail: bytes) -> tuple[bytes, bytes]:
        """Return the name and the address to show for those in a commit."""
        entry = self._entries.get(mail.lower())
        if entry is None:
            return name, mail
        shown_name, shown_mail = entry.of_names.get(name.lower(), (entry.name, entry.mail))
        return name if shown_name is None else shown_name, mail if shown_mail is None else shown_mail
