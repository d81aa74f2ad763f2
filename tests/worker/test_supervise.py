"""What becomes of a job whose supervisor itself goes wrong."""

import threading
from dataclasses import replace
from pathlib import Path

from app.blobs.choose import open_blobs
from app.contract.confinement import Level
from app.contract.job import JobState
from app.ledger import claims, schema, tenants
from app.ledger.database import Database
from app.settings import Clocks, Settings
from tests.ledger.asking import ALICE, find, submit
from worker.supervision.job import supervise
from worker.supervision.parts import Parts


class Broken:
    """A store with a defect, which no real one can be made to have."""

    def fetch(self, *_: object) -> None:
        raise ZeroDivisionError


def test_a_defect_of_the_supervisor_ends_the_attempt_at_once(tmp_path: Path) -> None:
    ledger = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    schema.upgrade(ledger)
    with ledger.write() as tx:
        tenants.ensure(tx, ALICE)
    job = submit(ledger)
    clocks, blobs = Clocks(), open_blobs(Settings(home=tmp_path))
    parts = replace(Parts(ledger, blobs, clocks, "cpu", tmp_path, 3600, Level.FULL), blobs=Broken())
    with ledger.write() as tx:
        held = claims.claim(tx, "cpu", "here", clocks)
    assert held is not None
    supervise(held, parts, threading.Event())
    left = find(ledger, job)
    assert left.state is JobState.QUEUED, "and not running until its lease is over"
    assert [path for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith(job.id)] == []
    ledger.close()
