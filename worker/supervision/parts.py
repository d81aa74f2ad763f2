"""What a supervisor works with."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from app.blobs.choose import open_blobs
from app.blobs.interface import Blobs
from app.contract.confinement import Level
from app.errors import UnavailableError
from app.ledger.database import Database
from app.settings import Clocks, Settings
from worker.cage.messages import OUT
from worker.cage.policy import Limits, Policy, policy
from worker.supervision.scratch import scratch

T = TypeVar("T")
BETWEEN_TRIES_S = 1.0
GPU = Path("/dev/nvidiactl")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """The ledger, the store, and how long things may take."""

    database: Database
    blobs: Blobs
    clocks: Clocks
    pool: str
    folder: Path  # of the job folders
    keep_s: float
    confinement: Level

    @classmethod
    def open(cls, settings: Settings) -> "Parts":
        """Open them. Raises `SettingsError`."""
        return cls(
            Database(settings.database),
            open_blobs(settings),
            settings.clocks,
            settings.pool,
            scratch(settings.jobs_folder),
            settings.limits.keep_s,
            settings.confinement,
        )

    def cage(self, folder: Path) -> Policy:
        """What the child of a job may do that has its folder there."""
        device: Literal["cpu", "cuda"] = "cuda" if GPU.exists() else "cpu"
        limits = Limits(
            wall_s=2 * self.clocks.deadline_s
        )  # the heart sees to the deadline; this is for a dead heart
        return policy((folder / OUT,), device, readable=(folder,), limits=limits, required=self.confinement)

    def insist(self, write: Callable[[], T]) -> T:
        """Do what writes to the ledger, again and again while the ledger does not answer.

        Gives up after ten leases, by raising `UnavailableError`: the job is somebody else's by then.
        """
        until = time.monotonic() + 10 * self.clocks.lease_s
        while True:
            try:
                return write()
            except UnavailableError as error:
                if time.monotonic() > until:
                    raise
                log.warning("%s Trying again.", error)
                time.sleep(BETWEEN_TRIES_S)
