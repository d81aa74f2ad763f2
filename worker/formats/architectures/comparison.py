"""How the keys and shapes of a file differ from those of an architecture."""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.formats.architectures.interface import Shapes

OPTIONAL = "num_batches_tracked"  # a counter that older files and some exporters leave out
LISTED = 3  # keys that are named before the rest is only counted
KEY_LENGTH = 80  # keys come from an untrusted file


@dataclass(frozen=True, slots=True)
class Comparison:
    """Keys of the architecture that the file lacks, keys only in the file, and keys whose shape differs."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # key, expected, in the file
    matching: int

    @property
    def exact(self) -> bool:
        """Whether every key is there with its shape, and no other."""
        return not (self.missing or self.unexpected or self.reshaped)

    @property
    def share(self) -> float:
        """Keys that match with their shape, of all keys of either side; matching counters prove nothing."""
        total = self.matching + len(self.missing) + len(self.unexpected) + len(self.reshaped)
        return self.matching / max(total, 1)

    def differences(self) -> str:
        """The first differences of each kind, in words."""
        reshaped = [
            f"{_printable(key)} is {_times(found)} instead of {_times(expected)}"
            for key, expected, found in self.reshaped[:LISTED]
        ]
        parts = (
            _listed("Missing", [_printable(key) for key in self.missing[:LISTED]], len(self.missing)),
            _listed(
                "Unexpected", [_printable(key) for key in self.unexpected[:LISTED]], len(self.unexpected)
            ),
            _listed("Other shape", reshaped, len(self.reshaped)),
        )
        return " ".join(part for part in parts if part)


def compare(expected: Shapes, found: Shapes) -> Comparison:
    """Compare the shapes of an architecture with those in a file; a missing counter is no difference."""
    shared = [key for key in expected if key in found]
    return Comparison(
        missing=tuple(key for key in expected if key not in found and not key.endswith(OPTIONAL)),
        unexpected=tuple(key for key in found if key not in expected),
        reshaped=tuple((key, expected[key], found[key]) for key in shared if expected[key] != found[key]),
        matching=sum(expected[key] == found[key] for key in shared if not key.endswith(OPTIONAL)),
    )


def _listed(label: str, items: Sequence[str], total: int) -> str:
    if not items:
        return ""
    more = f" and {total - len(items)} more" if total > len(items) else ""
    return f"{label}: {', '.join(items)}{more}."


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _printable(key: str) -> str:
    text = key.encode("unicode_escape").decode()
    return text if len(text) <= KEY_LENGTH else text[: KEY_LENGTH - 1] + "…"
