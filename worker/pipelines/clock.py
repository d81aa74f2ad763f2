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
        """Measure one stage."""
        started = time.perf_counter()
        yield
        self.seconds[f"{stage.value}_s"] = time.perf_counter() - started
        self.seconds["total_s"] = sum(s for name, s in self.seconds.items() if name != "total_s")
