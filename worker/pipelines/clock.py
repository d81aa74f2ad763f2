"""How long each stage of a job took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.contract.job import Stage


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Measure one stage, or one more part of it."""
        started = time.perf_counter()
        yield
        name = f"{stage.value}_s"
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        self.seconds["total_s"] = sum(s for name, s in self.seconds.items() if name != "total_s")
