"""Keeps a job's lease alive, and learns in the same breath why the job has to end."""

import logging
import threading
import time
from enum import StrEnum

from app.ledger import claims
from app.ledger.claims import Claim
from worker.supervision.parts import Parts

log = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why a job that runs well has to be ended all the same."""

    CANCELED = "canceled"
    STALLED = "stalled"
    LATE = "late"
    LOST = "lost"  # somebody else may have the job by now: nothing more is written
    DRAINED = "drained"


class Heart(threading.Thread):
    """Beats until it is stopped, or has a `reason` to end the job."""

    def __init__(self, held: Claim, parts: Parts, draining: threading.Event) -> None:
        super().__init__(name=f"heart-{held.job.id}", daemon=True)
        self.held = held
        self.parts = parts
        self.draining = draining
        self.reason: Reason | None = None
        self.stopped = threading.Event()

    def __enter__(self) -> "Heart":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()

    def run(self) -> None:
        """Beat."""
        clocks = self.parts.clocks
        renewed = time.monotonic()
        drained_at: float | None = None
        while self.reason is None and not self.stopped.wait(clocks.heartbeat_s):
            now = time.monotonic()
            if self.draining.is_set():
                drained_at = drained_at or now + clocks.drain_s
            try:
                self.reason = self._beat()
                renewed = now
            except Exception as error:  # noqa: BLE001 - a heart that stops must never leave its child running
                log.warning("the lease of job %s was not renewed: %r", self.held.job.id, error)
                self.reason = Reason.LOST if now - renewed > clocks.lease_s else None
            if self.reason is None and drained_at is not None and now >= drained_at:
                self.reason = Reason.DRAINED

    def _beat(self) -> Reason | None:
        with self.parts.database.write() as tx:
            pulse = claims.heartbeat(tx, self.held, self.parts.clocks)
        match pulse:
            case None:
                return Reason.LOST
            case claims.Pulse(cancel=True):
                return Reason.CANCELED
            case claims.Pulse(late=True):
                return Reason.LATE
            case claims.Pulse(stalled=True):
                return Reason.STALLED
            case _:
                return None
