"""A row of the corpus: one way of attack, one function that makes its files, one answer that it must get."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

ACCEPTED = "accepted"
DENIED = "denied"


class Kind(StrEnum):
    """What the files claim to be, and so who reads them."""

    MODEL = "model"  # read as stored tensors
    NETWORK = "network"  # read, fitted to an architecture and run once
    SAMPLES = "samples"  # read as images of two classes, 8×8 in colour
    OPTIONS = "options"  # what a user asks for, as JSON
    CODE = "code"  # not a file: what runs in the cage once a reader has failed us


@dataclass(frozen=True, slots=True)
class Row:
    """`number` is the group and the letter; every file of `make` must be answered with one of `answers`."""

    number: str
    kind: Kind
    what: str
    answers: frozenset[str]
    make: Callable[[], Iterable[bytes]]
    suffix: str


ROWS: list[Row] = []


def row(
    number: str, kind: Kind, *answers: str, suffix: str = ""
) -> Callable[[Callable[[], bytes | list[bytes]]], Callable[[], bytes | list[bytes]]]:
    """Enter a function into the corpus; its docstring says what its files are."""

    def entered(make: Callable[[], bytes | list[bytes]]) -> Callable[[], bytes | list[bytes]]:
        def files() -> Iterable[bytes]:
            made = make()
            return [made] if isinstance(made, bytes) else made

        what = (make.__doc__ or make.__name__.replace("_", " ")).strip().rstrip(".")
        ROWS.append(Row(number, kind, what, frozenset(answers), files, suffix))
        return make

    return entered
