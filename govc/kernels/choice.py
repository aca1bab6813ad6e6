"""Which answer is used: the compiled kernel when it was built, its twin in pure Python otherwise.

An ordinary `pip install` compiles the kernels; on a machine without a C compiler it goes through all the same, and the
twins serve. What was chosen is chosen once, at import.
"""

import importlib
import os

TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import ModuleType

VARIABLE = "GOVC_KERNELS"
PYTHON = "python"
COMPILED = "compiled"

QUESTIONS = (
    "chainread",
    "chains",
    "delta",
    "deltify",
    "guard",
    "history",
    "indexing",
    "introduce",
    "notices",
    "objectcache",
    "order",
    "packcheck",
    "packcopy",
    "packread",
    "packrows",
    "pathchanges",
    "sha1",
    "stamps",
    "sweep",
    "thin",
    "treelist",
    "treewalk",
)
"""Every kernel there is; `_packout_c`, which is part of `packcopy`, and `_historyload_c` and `_historywalk_c`, which
are parts of `history`, have no door of their own."""


class Choice:
    """What answers a question: `kind` is COMPILED or PYTHON, `reason` why it is not the compiled one."""

    __slots__ = ("kind", "question", "reason")

    def __init__(self, question: str, kind: str, reason: str) -> None:
        self.question = question
        self.kind = kind
        self.reason = reason


def find(question: str) -> "ModuleType | None":
    """Return the compiled kernel, or None when its twin is to be used."""
    return None if _is_forced() else _load(question)[0]


def choose(question: str) -> "ModuleType":
    """Return the module that answers: the compiled one, else `QUESTION_py`."""
    return find(question) or importlib.import_module(f"govc.kernels.{question}_py")


def describe() -> tuple[Choice, ...]:
    """Return what answers each question in this process."""
    choices = []
    for question in QUESTIONS:
        module, reason = _load(question)
        if _is_forced():
            module, reason = None, f"{VARIABLE}={PYTHON}"
        choices.append(Choice(question, COMPILED if module else PYTHON, reason))
    return tuple(choices)


def _is_forced() -> bool:
    return os.environ.get(VARIABLE, "") == PYTHON


def _load(question: str) -> "tuple[ModuleType | None, str]":
    try:
        return importlib.import_module(f"govc.kernels._{question}_c"), ""
    except ModuleNotFoundError:
        return None, "not compiled"
    except ImportError as error:
        return None, str(error)  # built for another interpreter, or a library is gone
