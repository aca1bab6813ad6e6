"""Why a row falls short, as far as it is known: shown beside its figure when it does, and only then."""

REASONS: dict[int, str] = {
    1: "behind nginx, nginx's own work for a proxied request is about as much as ours, on one side of the "
    "comparison; directly, what is left is Python's and gevent's share of one request",
    2: "as row 1; of the whole listing, copying 3 MB through a socket, twice behind a proxy",
    3: "the first look after a push reads the folders that changed, whose stamps prove nothing yet",
    4: "a small repository's clone is a request: half a millisecond of HTTP for two megabytes; of large ones the "
    "kernel's copying of pages to a socket is all there is",
    5: "git with a bitmap copies stored entries, as we do; ours are written to the cache as they are sent. After "
    "a push the body is made anew, not extended",
    6: "fifty requests and fifty answers through a socket cost what they cost, however often the body is made",
    7: "about five hundred Python calls for the request, greenlets and HTTP; large distances: hashing and "
    "expanding what is sent",
    8: "objects stored as deltas are expanded and compressed for clients without the history: deflate is the limit",
    9: "about 4,000 Python calls and 400 system calls for a push, of which a log record and its sync are few: "
    "quarantine, index files, looking at what changed, locks",
    10: "small packs: the start of Python is in the figure",
    11: "pure Python; small packs: the start of Python is in the figure",
    12: "beyond the budget an object is inflated as often as by libgit2; cached, half of the figure is Python's loop; "
    "a path whose own history is short is found sooner by whoever stops early (bench/READS.md)",
    13: "inflating and deltas are most of a first read on both sides, and packs are read, not mapped; a validated ref "
    "is two stat calls, of which libgit2 makes as many",
    14: "two interpreters (master and worker) are in the figure, before anything is served",
    15: "the worker that takes the transfer answers between two pieces of it, and the client takes the other core",
    16: "deltas are looked for in Python around a compiled kernel",
    17: "the index of introductions is mapped and its order is made when it is first asked for",
}
