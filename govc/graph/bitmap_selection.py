"""Which commits get a reachability bitmap: the tips of history, and commits spaced along it.

What asks for a bitmap is a ref (a clone) or a commit that was one (a fetch), and what lies between a question and the
next bitmap below it has to be walked. So a set is kept for

    tips       which no other tip reaches, the newest ones first: whoever clones asks for all of them
    the newest 100 commits, each
    then one in a window of commits, in order of time: windows grow to 100 commits, beyond the 20,000th to 5,000

and of a window the commit that is a tip, else the last merge, else the last commit: what others stand on. The
windows are git's, so that what git walks beside our bitmaps is what it walks beside its own. git takes a tip first only
where pack.preferBitmapTips says so (those come first here, too); it has no sets for other tips' sake.

Source: gitformat-bitmap; git's pack-bitmap-write.c (bitmap_writer_select_commits, next_commit_index).
"""

from collections.abc import Collection, Iterator, Sequence

EACH_COUNT = 100
"""So many of the newest commits have a set each; also the size to which windows grow first."""

DENSE_COUNT = 20_000
"""Up to here a window has at most EACH_COUNT commits."""

WINDOW_MAX = 5_000

TIPS_MAX = 256
"""Tips that have sets because they are tips. A set that is xored with a like one takes a few hundred bytes, but each
costs one pass over all objects."""


def select_commits(
    newest_first: Sequence[int],
    tips: Sequence[int],
    *,
    preferred: Collection[int],
    merges: Collection[int],
) -> set[int]:
    """Return the chosen ones of some commits.

    `tips`: those that no other one reaches, the newest first. `preferred`: what a window's choice falls on first.
    """
    chosen = set(tips[:TIPS_MAX])
    known_tips = frozenset(tips)
    for window in _iter_windows(newest_first):
        best = window[-1]
        rank = 0
        for commit in window:
            if commit in preferred:
                best = commit
                break
            if commit in known_tips:
                best, rank = commit, 2
            elif rank < 2 and commit in merges:
                best, rank = commit, 1
        chosen.add(best)
    return chosen


def _iter_windows(commits: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut the commits, the newest first, in windows; a last one that isn't full is left out."""
    at, count = 0, len(commits)
    while at < count:
        size = 1 if count < EACH_COUNT else _window_size(at)
        if at + size > count:
            return
        yield commits[at : at + size]
        at += size


def _window_size(at: int) -> int:
    if at <= EACH_COUNT:
        return 1
    if at <= DENSE_COUNT:
        return 1 + min(at - EACH_COUNT, EACH_COUNT)
    return 1 + max(EACH_COUNT, min(at - DENSE_COUNT, WINDOW_MAX))
