"""Why a figure falls short, as far as it is known: shown in its row's line when a figure that it explains does.

A reason tells what the work consists of; it names no figure, since figures are the run's. Each belongs to a row, and
within it to the lines whose title has a word in it, and to one way of asking (directly, or behind nginx), or to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.lines import BEHIND, DIRECT, OURS, Line

UNKNOWN = "the reason is not known"
START_SECONDS = 1.0
"""Python's start with our modules is a large share of less than that."""


@dataclass(frozen=True)
class Reason:
    """`words`: a line's title has one of them; none: any line. `contender`: whose figure is short; none: anybody's.
    `seconds_max`: it is about figures (seconds) up to that. `unit`: it is about figures in that; none: in any.
    """

    row: int
    text: str
    words: tuple[str, ...] = ()
    contender: str = ""
    seconds_max: float = float("inf")
    unit: str = ""

    def explains(self, line: Line, contender: str) -> bool:
        """Whether it is about this figure."""
        if line.row != self.row or self.contender not in ("", contender) or self.unit not in ("", line.unit):
            return False
        if (line.median(contender) or 0.0) > self.seconds_max:
            return False
        return not self.words or any(word in line.what for word in self.words)


REASONS = (
    Reason(
        1,
        "behind nginx, a request and its answer pass the proxy, two more sockets and another process that wakes, which "
        "is on our side of the comparison",
        (),
        BEHIND,
    ),
    Reason(
        1,
        "what is left of a request is the kernel's work for its packets, a switch of gevent's, and the Python calls "
        "that read it, prove that nothing changed and answer from memory",
        (),
        DIRECT,
    ),
    Reason(2, "the whole listing is copied through a socket", ("whole",), DIRECT),
    Reason(2, "behind nginx, the whole listing is copied through two sockets", ("whole",), BEHIND),
    Reason(2, "behind nginx, a small listing passes two more sockets and wakes another process", ("prefix",), BEHIND),
    Reason(2, "a prefix is a small listing, of which a request is most", ("prefix",), DIRECT),
    Reason(
        3,
        "the first look after a push reads the log and the folders that changed, whose stamps prove nothing as long as "
        "they are fresh",
        ("after a push", "the same"),
    ),
    Reason(
        4,
        "a small repository's clone is a request, divided by few bytes: a connection that is accepted for it (which "
        "wakes the other worker, too), a greenlet and a socket in Python for that, the file that is opened, a proof, a "
        "line of the log; of a large one the kernel's handing of pages to a socket is nearly all there is (bodies "
        "lie in few large folios of the page cache), and being woken when it has room again; a worker that had not met "
        "the repository opens it",
        (),
        DIRECT,
    ),
    Reason(
        4,
        "behind nginx, the request passes the proxy, which opens the file itself; of a large body its handing of pages "
        "to the socket, in pieces between which others have their turn, is nearly all there is, of a small one the "
        "request is most",
        (),
        BEHIND,
    ),
    Reason(
        5,
        "of a small repository opening it is most: its system calls, its files read and checked for the "
        "first time, and Python code that even a worker that has practised has run a few times only",
        ("its body kept",),
    ),
    Reason(
        5,
        "a repository is opened first (its index is hashed whole), each tag that is wanted is read, all of a large "
        "pack is listed to prove that it is wanted, and the kernel is called for each packet and its head; of a small "
        "one opening it and the steps of one production are most",
        ("emptied",),
    ),
    Reason(
        5,
        "behind nginx the first client's bytes pass through two sockets: to write them to a file for nginx to send "
        "takes as much CPU",
        ("emptied",),
        BEHIND,
    ),
    Reason(
        5,
        "the pack's trailer is a hash over all of it, and the count of objects stands in its first bytes, so all that "
        "was there before is hashed again (of a large one that is most, nearly all of it the hash's own "
        "instructions), though nothing of it is made or written; a worker that had not met the repository opens it; of "
        "a small one a request is most",
        ("push",),
    ),
    Reason(
        5,
        "behind nginx, what is sent from the stored pack passes through two sockets, and a body that grows is copied "
        "into a file of its own, as nginx sends one file",
        ("push",),
        BEHIND,
    ),
    Reason(
        6,
        "the body is made once, of a large pack by one copy into new pages of the cache, which a virtual machine may "
        "have to get from its host first; the kernel's handing of pages to all those sockets is most of what is left, "
        "and the next most is Python that wakes each follower for some dozens of stretches",
        ("clones at once, cold",),
        DIRECT,
        unit="CPU s",
    ),
    Reason(
        6,
        "the body is made once, of a large pack by one copy into new pages of the cache, which a virtual machine may "
        "have to get from its host first; behind nginx, each client's request waits for its end, and then nginx's "
        "handing of pages to that many sockets is most of what is left",
        ("clones at once, cold",),
        BEHIND,
        unit="CPU s",
    ),
    Reason(
        7,
        "a request costs its many Python calls, however little is sent (a connection and its greenlet, the proof "
        "that nothing changed, the steps of the answer, a line of the log), on caches that others have used since",
        ("fetch, 1 commit", "fetch, 10 commits"),
    ),
    Reason(
        7,
        "entries lie ready in the order in which they are sent, so what is left is listing the objects by sweeps over "
        "the index, finding each by its name, copying and hashing every byte of the answer, keeping it in the cache "
        "and sending it; git with a bitmap copies and hashes as much",
        ("fetch, 100 commits", "fetch, 1,000 commits"),
    ),
    Reason(
        8,
        "the trees of the tip are inflated to be listed; copying what is ready and hashing it is the rest",
        ("depth 1",),
    ),
    Reason(8, "the blobs are copied, hashed and sent; nothing is compressed", ("lazy fetch",)),
    Reason(
        8,
        "the first answer at a commit is made and kept: beside choosing and copying commits and trees, as git does, it "
        "is hashed, written into the page cache for those who ask again, and handed to the socket",
        ("blob:none",),
    ),
    Reason(
        9,
        "most of a push is the interpreter's: its two requests prove by stat what is as it was, and read anew what the "
        "last push moved; then a pack, an index, a lock, a record and a ref are made and named. The kernel's part is "
        "mostly making files (where the file system has no journal, in proportion to the inodes freed within minutes) "
        "and listing folders, which each push makes longer; the sync takes no CPU. Of many refs, megabytes of "
        "listing go through a socket each time",
        ("push of 1 commit",),
    ),
    Reason(
        9,
        "of sixteen pushers each finds, in both of its requests, refs and packs changed by the others, and lists both "
        "folders anew",
        ("16 pushers",),
    ),
    Reason(10, "both sides inflate and hash every object; what is left to gain is in copying and in the deltas"),
    Reason(
        10,
        "of a small pack, the start of Python is a part, most of it its own and the loading of OpenSSL and zlib; a "
        "process that runs is without, and there libdeflate, which inflates tiny streams, many with tables of codes of "
        "their own, is most: turning detection off saves little of that",
        seconds_max=START_SECONDS,
    ),
    Reason(
        11,
        "every object's header, name and delta go through the interpreter, which takes more of the time of tiny ones "
        "than zlib and OpenSSL together; and what those two take is a large part of all that git takes, with the same "
        "zlib, which leaves little for an interpreter",
    ),
    Reason(11, "of a small pack, the start of Python is a part of the figure, too", seconds_max=START_SECONDS),
    Reason(
        12,
        "most of the figure is the loop in Python that asks: a look into a bare dict in its place takes longer; "
        "asked for in one call they take the line below",
        ("cached objects (",),
    ),
    Reason(
        12,
        "what is beyond the budget is a first read, most of which is inflating and copying, by us as by libgit2; where "
        "all fits and they are asked for one by one, the loop in Python that asks is most of the figure",
        ("Zipf",),
    ),
    Reason(12, "each commit's content is looked up in the cache, and its message copied out of it", ("messages",)),
    Reason(12, "each Commit of the log is a Python object that has to be made", ("full log", "topological")),
    Reason(
        12,
        "a question is one call from Python whose arguments have to be looked up: that is most of it when the answer "
        "is near",
        ("merge base", "ahead/behind"),
    ),
    Reason(
        12,
        "libgit2 stops early where a path's own history is short; ours walks along all commits that might be followed",
        ("history of one path (oids), another",),
    ),
    Reason(
        12,
        "an answer that is known is looked up, and a name made for each of its commits",
        ("history of one path (oids), again",),
    ),
    Reason(
        12,
        "configuration outside of the repository is asked by stat at each listing, and all of the repository where "
        "its file system isn't one whose changes are announced",
        ("listing of",),
    ),
    Reason(
        13,
        "inflating is most of a first read, though each entry is inflated once as long as it is kept; the rest is "
        "taking deltas apart and copying into new memory, by us as by libgit2; of tiny objects the call and the place "
        "in the cache count as well",
        ("first read",),
    ),
    Reason(
        13,
        "three objects of Python's are made for each file; for each tree its name is looked up in pages that nobody "
        "touched yet, and a table of codes is built before its few bytes are inflated, by us as by libgit2; where the "
        "files are few, mapping the pack and setting up its reader is as much",
        ("all files, first",),
    ),
    Reason(
        13,
        "that a ref is still what it was is proved by a system call; by two stat calls, which take longer than the "
        "goal, where changes of its file system aren't announced",
        ("validated",),
    ),
    Reason(13, "looking up a name in Python is all there is to a ref that is held", ("held",)),
    Reason(13, "each entry of a tree is a Python object that has to be made", ("root tree", "files (mode")),
    Reason(14, "master, worker and helper are an interpreter each, before anything is served"),
    Reason(15, "the worker that takes the transfer answers others between two pieces of it"),
    Reason(16, "what is stored whole in every pack that has it stays whole: no new deltas are looked for"),
    Reason(17, "the index of introductions is mapped, and its order is made, when it is first asked for"),
)


def short_figures(lines: Sequence[Line]) -> list[tuple[Line, str]]:
    """The figures of ours that didn't meet their goals: line and contender."""
    return [(line, name) for line in lines if line.goal is not None for name in OURS if line.is_met(name) is False]


def reasons_of(lines: Sequence[Line]) -> list[str]:
    """The reasons of the figures of one row that fell short, each once; that none is known is said, too."""
    found: list[str] = []
    for line, contender in short_figures(lines):
        texts = [reason.text for reason in REASONS if reason.explains(line, contender)]
        found += [text for text in texts or [f"{line.what}: {UNKNOWN}"] if text not in found]
    return found
