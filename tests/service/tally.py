"""What all fault tests together did to how many jobs, and what became of them; printed as one line at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from app.ledger import events
from app.ledger.database import Database
from tests.conftest import BACKDOORED as MODEL
from tests.service.conftest import Server, digest


@dataclass
class Struck:
    """One fault: when it came, and which jobs it could have harmed."""

    jobs: list[str] = field(default_factory=list)
    at_ms: float = 0.0

    def now(self) -> None:
        """The fault comes now."""
        self.at_ms = time.time() * 1000


@dataclass
class Tally:
    """The sums of a session."""

    faults: int = 0
    jobs: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    longest_s: float = 0.0

    @contextmanager
    def fault(self, server: Server, client: httpx2.Client) -> Iterator[Struck]:
        """Count a fault whose jobs all have to succeed, once, with the model that an undisturbed run gives back."""
        struck = Struck()
        yield struck
        before = (self.lost, self.duplicated, self.wrong)
        self.faults += 1
        self.jobs += len(struck.jobs)
        at_work = []
        database = Database(server.database)
        for job_id in struck.jobs:
            job = server.ended(client, job_id, 120)
            self.lost += job["state"] != "succeeded"
            with database.read() as tx:
                told = events.since(tx, job_id, 0, 10_000)
            self.duplicated += sum(event.data.get("state") == "succeeded" for event in told) > 1
            model = client.get(f"/v1/jobs/{job_id}/model").content
            self.wrong += digest(model) != digest(MODEL.read_bytes())
            at_work += [event.at for event in told if event.at > struck.at_ms and _is_work(event.data)]
        database.close()
        if struck.at_ms:
            self.longest_s = max(self.longest_s, (min(at_work) - struck.at_ms) / 1000)
        assert (self.lost, self.duplicated, self.wrong) == before, server.log()

    def line(self) -> str:
        """The one line."""
        return (
            f"{self.faults} faults × {self.jobs} jobs: {self.lost} lost, {self.duplicated} duplicated, "
            f"{self.wrong} wrong digests, longest pause of the work {self.longest_s:.1f} s"
        )


def _is_work(data: dict[str, object]) -> bool:
    return data.get("state") in ("running", "succeeded") or "stage" in data


TALLY = Tally()
