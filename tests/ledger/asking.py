"""The shortest way to a job in a ledger."""

from app.contract.artifact import Named
from app.contract.job import Inputs, Job, JobRequest
from app.ledger import artifacts, jobs
from app.ledger.database import Database

ALICE, BOB = "alice", "bob"
MODEL, SAMPLES = (f"sha256:{letter * 64}" for letter in "ab")
KEEP_S = 3600.0
REQUEST = JobRequest(inputs=Inputs(model=Named(digest=MODEL, name="m.pt"), samples=Named(digest=SAMPLES)))


def upload(ledger: Database, tenant: str = ALICE) -> None:
    with ledger.write() as tx:
        for digest in (MODEL, SAMPLES):
            artifacts.record(tx, tenant, digest, 10, KEEP_S)


def submit(ledger: Database, tenant: str = ALICE, pool: str = "cpu") -> Job:
    upload(ledger, tenant)
    with ledger.write() as tx:
        return jobs.submit(tx, tenant, REQUEST, pool=pool, keep_s=KEEP_S)


def find(ledger: Database, job: Job, tenant: str = ALICE) -> Job:
    with ledger.read() as tx:
        return jobs.find(tx, tenant, job.id)
