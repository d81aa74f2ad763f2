"""The threads of a worker: one for each job that runs at once, and one that reaps.

A bell wakes the slots; without one they look at the ledger by themselves every few seconds. A slot that ends a job
looks for the next one at once. Slots are threads that live as long as the worker: they only wait for their child.
"""

import logging
import os
import socket
import threading
from uuid import uuid4

from app.errors import SanitizerError
from app.ledger import claims, reaper
from worker.supervision.job import supervise
from worker.supervision.parts import Parts

log = logging.getLogger(__name__)


class Workforce:
    """Claims jobs and supervises them."""

    def __init__(self, parts: Parts, slots: int) -> None:
        self.parts = parts
        self.holder = f"{socket.gethostname()[:32]}:{os.getpid()}:{uuid4().hex[:8]}"
        self.draining = threading.Event()
        self.bells = [threading.Event() for _ in range(slots)]
        self.threads = [
            threading.Thread(target=self._slot, args=(bell,), name=f"slot-{number}")
            for number, bell in enumerate(self.bells)
        ]
        self.threads.append(threading.Thread(target=self._reap, name="reaper"))

    def start(self) -> None:
        """Begin to work."""
        for thread in self.threads:
            thread.start()

    def ring(self) -> None:
        """There may be work."""
        for bell in self.bells:
            bell.set()

    def drain(self) -> None:
        """Claim nothing more; running jobs get `drain_s` to end, and are then given back."""
        self.draining.set()
        self.ring()

    def join(self) -> None:
        """Wait until everybody has gone home."""
        for thread in self.threads:
            thread.join()
        self.parts.database.close()

    def _slot(self, bell: threading.Event) -> None:
        while not self.draining.is_set():
            bell.clear()
            if not self._work():
                bell.wait(self.parts.clocks.look_s)

    def _work(self) -> bool:
        """Claim a job and run it to its end; False where there was none."""
        try:
            with self.parts.database.write() as tx:
                held = claims.claim(tx, self.parts.pool, self.holder, self.parts.clocks)
            if held is None:
                return False
            supervise(held, self.parts, self.draining)
        except Exception:
            log.exception("a slot goes on after an error")
            return False
        return True

    def _reap(self) -> None:
        while not self.draining.wait(self.parts.clocks.look_s):
            try:
                with self.parts.database.write() as tx:
                    reaped = reaper.reap(tx, self.parts.clocks)
                with self.parts.database.write() as tx:
                    reaper.expire(tx, self.parts.blobs.remove)
                self.parts.blobs.sweep()
            except SanitizerError as error:
                log.warning("the reaper goes on after: %s", error)
            except Exception:
                log.exception("the reaper goes on after an error")
            else:
                os.utime(self.parts.folder)  # a sign of life, for health checks
                if reaped:
                    log.info("%d jobs had nobody who cared for them", reaped)
                    self.ring()
