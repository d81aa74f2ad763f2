"""How an algorithm says where it is, without knowing who listens.

`step` may raise `JobCanceled`: that is how a job is stopped between two steps of its mathematics.
"""

from dataclasses import dataclass
from typing import Protocol

from app.contract.job import Stage


class Progress(Protocol):
    """Somebody who wants to know."""

    def step(self, stage: Stage, done: int, total: int, **metrics: float) -> None:
        """`done` of `total` steps of `stage` are behind us. Raises `JobCanceled` when nobody wants the result."""


class Silent:
    """Nobody listens."""

    def step(self, stage: Stage, done: int, total: int, **metrics: float) -> None:
        """Do nothing."""


SILENT = Silent()


@dataclass(frozen=True, slots=True)
class As:
    """Tells `listener` of every step as a step of `stage`, whatever stage the algorithm believes to be in."""

    listener: Progress
    stage: Stage

    def step(self, stage: Stage, done: int, total: int, **metrics: float) -> None:
        """Pass it on under the other name."""
        del stage
        self.listener.step(self.stage, done, total, **metrics)
