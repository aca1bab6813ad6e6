"""The few hot loops, compiled where that is possible: pure, no I/O but reading a descriptor, without the GIL where it
would hold others up (docs/architecture.md names those that hold it).

One question per file, three files each:

    QUESTION.py        the door: the story, and the choice at import. Everybody imports this one
    _QUESTION_c.pyx    the compiled answer (Cython)
    QUESTION_py.py     its twin in pure Python: same arguments, same results, same errors

A twin that stands in a room above (the scanner and the resolver of `govc.pack` work on that room's tables) is
chosen by that room, through `choice.find`. The tests of a kernel run against both, or compare what the two make of the
same input. `GOVC_KERNELS=python` in the environment forces the twins; `describe()` tells what was chosen, `govc doctor`
prints it.
"""

from govc.kernels.choice import describe

__all__ = ["describe"]
