"""The null: what the witnesses say of clean nets, so that what they say of a suspect can be read.

`null.json` holds it, one entry for each net, made by `benchmarks.detectors.null`. Every witness is put on one scale:
how far its word for a class lies above its strongest word on a typical clean net, in spreads of that strongest word.
What lies below counts nothing, and witnesses add up, class by class. So one loud witness suffices, as two do that are
moderately loud about the same class; and a witness that is silent about a kind of backdoor clears nothing. Witnesses
that only corroborate count together at most twice what the others do about the same class.

Knows numbers; knows nothing of models.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from statistics import median, pstdev

from pydantic import Field, TypeAdapter

from app.contract.frozen import Frozen

Said = Mapping[str, Mapping[int, float]]  # witness -> class -> its word, large: suspicious
LEAST_SPREAD = 1e-6
CORROBORATION = 2.0  # times what the others say; see decision 22


class CleanNet(Frozen):
    """What the witnesses say of one clean net."""

    name: str
    digest: str
    architecture: str
    accuracy: float
    said: dict[str, dict[int, float]] = Field(description="witness -> class -> its word, large: suspicious")


@dataclass(frozen=True, slots=True)
class Scale:
    """Of one witness: its strongest word on a typical clean net, and how much that varies."""

    centre: float
    spread: float

    def above(self, word: float) -> float:
        """How many spreads; below the centre nothing."""
        return max(0.0, (word - self.centre) / self.spread)


@dataclass(frozen=True, slots=True)
class Null:
    """Clean nets, each as what was said of it; and the witnesses that only corroborate."""

    nets: tuple[Said, ...]
    corroborating: frozenset[str] = frozenset()

    def of(self, witnesses: Collection[str]) -> "Null":
        """What only these witnesses say, of the nets of which all of them did."""
        nets = (net for net in self.nets if net.keys() >= set(witnesses))
        return replace(self, nets=tuple({name: net[name] for name in witnesses} for net in nets))

    def strongest(self, witness: str) -> tuple[float, ...]:
        """Its strongest word on each net, smallest first."""
        return tuple(sorted(max(net[witness].values()) for net in self.nets))

    def scale(self, witness: str) -> Scale:
        """From all nets."""
        words = self.strongest(witness)
        return Scale(median(words), max(pstdev(words), LEAST_SPREAD))

    def weights(self, said: Said) -> dict[int, dict[str, float]]:
        """Class -> witness -> how far it goes beyond a typical clean net, as far as that counts."""
        scales = {name: self.scale(name) for name in said}
        return {
            k: self._counted(
                {name: scales[name].above(words.get(k, -math.inf)) for name, words in said.items()}
            )
            for k in {k for words in said.values() for k in words}
        }

    def _counted(self, beyond: dict[str, float]) -> dict[str, float]:
        """Of one class: those that corroborate are cut to twice what the others say."""
        second = sum(far for name, far in beyond.items() if name in self.corroborating)
        first = sum(beyond.values()) - second
        part = min(1.0, CORROBORATION * first / second) if second else 1.0
        return {name: far * (part if name in self.corroborating else 1.0) for name, far in beyond.items()}

    def scores(self, said: Said) -> dict[int, float]:
        """Class -> the sum over the witnesses of what counts."""
        return {k: sum(weights.values()) for k, weights in self.weights(said).items()}

    def of_the_nets(self) -> tuple[float, ...]:
        """The largest score of each net on the scale of the others, smallest first."""
        return tuple(
            sorted(
                max(replace(self, nets=(*self.nets[:i], *self.nets[i + 1 :])).scores(net).values())
                for i, net in enumerate(self.nets)
            )
        )


@cache
def shipped() -> tuple[CleanNet, ...]:
    """The nets that ship with the project."""
    text = files("worker.detectors").joinpath("null.json").read_text(encoding="utf-8")
    return TypeAdapter(tuple[CleanNet, ...]).validate_json(text)


def p_value(score: float, null: Collection[float]) -> float:
    """How often a clean net scores at least as high, the net itself counted among them; in (0, 1]."""
    return (1 + sum(other >= score for other in null)) / (1 + len(null))


def line_at(rate: float, null: Sequence[float]) -> float | None:
    """What a score must exceed for a p-value of at most `rate`, smallest first; None where no score can."""
    allowed = math.floor(rate * (1 + len(null)) + 1e-9) - 1
    if allowed < 0:
        return None
    return null[-1 - allowed] if allowed < len(null) else -math.inf
