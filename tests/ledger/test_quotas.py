"""Quotas hold however many ask at once; on both databases."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.contract.artifact import ArtifactKind
from app.contract.job import JobState
from app.contract.upload import UploadRequest
from app.errors import QuotaError, UnknownError
from app.ledger import artifacts, claims, jobs, tenants, uploads
from app.ledger.database import Database
from app.settings import Clocks
from tests.ledger.asking import ALICE, BOB, KEEP_S, MODEL, REQUEST, SAMPLES, submit, upload

RACERS = 12


def limit(ledger: Database, **shares: int | None) -> None:
    with ledger.write() as tx:
        tenants.limit(tx, ALICE, shares)


def race(action: Callable[[int], str]) -> list[str]:
    """What each of the racers got: ok, or the code of its refusal."""

    def one(number: int) -> str:
        try:
            return action(number)
        except QuotaError as error:
            return f"{error.status} {error.code}"

    with ThreadPoolExecutor(RACERS) as racers:
        return list(racers.map(one, range(RACERS)))


def test_racing_submits_stop_at_the_limit(ledger: Database) -> None:
    upload(ledger)
    limit(ledger, max_queued=5)

    def ask(_: int) -> str:
        with ledger.write() as tx:
            return jobs.submit(tx, ALICE, REQUEST, pool="cpu", keep_s=KEEP_S).state

    answers = race(ask)
    assert (answers.count("queued"), answers.count("429 quota.queued")) == (5, RACERS - 5)
    with ledger.read() as tx:
        assert len(jobs.page(tx, ALICE, 100)[0]) == 5
    assert submit(ledger, BOB).state is JobState.QUEUED


def test_a_canceled_job_makes_room(ledger: Database) -> None:
    limit(ledger, max_queued=1)
    job = submit(ledger)
    with pytest.raises(QuotaError) as refused:
        submit(ledger)
    assert refused.value.retry_after_s
    with ledger.write() as tx:
        jobs.cancel(tx, ALICE, job.id)
    submit(ledger)


def test_racing_uploads_stop_at_the_limit(ledger: Database) -> None:
    limit(ledger, max_bytes=50)

    def store(number: int) -> str:
        digest = f"sha256:{number:064}"
        with ledger.write() as tx:
            tenants.may_store(tx, ALICE, digest, 10)
            artifacts.record(tx, ALICE, digest, 10, KEEP_S)
        return "ok"

    answers = race(store)
    assert (answers.count("ok"), answers.count("413 quota.bytes")) == (5, RACERS - 5)
    with ledger.read() as tx:
        assert tenants.everyone(tx, ALICE)[0].bytes == 50


def test_what_is_there_already_costs_nothing(ledger: Database) -> None:
    upload(ledger)
    limit(ledger, max_bytes=20)
    with ledger.write() as tx:
        tenants.may_store(tx, ALICE, MODEL, 10)
        with pytest.raises(QuotaError):
            tenants.may_store(tx, ALICE, f"sha256:{'c' * 64}", 1)


def test_racing_workers_run_no_more_than_the_limit(ledger: Database) -> None:
    for _ in range(6):
        submit(ledger)
    other = submit(ledger, BOB)
    limit(ledger, max_running=2)

    def claim(number: int) -> str:
        with ledger.write() as tx:
            held = claims.claim(tx, "cpu", f"worker-{number}", Clocks())
        return held.tenant_id if held else "nothing"

    claimed = race(claim)
    assert (claimed.count(ALICE), claimed.count(BOB)) == (2, 1)
    with ledger.read() as tx:
        (usage,) = tenants.everyone(tx, ALICE)
        assert (usage.running, usage.queued) == (2, 4)
        assert jobs.find(tx, BOB, other.id).state is JobState.RUNNING


def test_a_quota_changes_alone_and_is_lifted(ledger: Database) -> None:
    limit(ledger, max_queued=0, max_bytes=7)
    limit(ledger, max_queued=None)
    with ledger.write() as tx:
        usage = tenants.limit(tx, ALICE, {})
        assert (usage.quota.max_queued, usage.quota.max_bytes) == (None, 7)
        with pytest.raises(UnknownError):
            tenants.limit(tx, "nobody", {"max_queued": 1})


def announce(ledger: Database, digest: str, size: int) -> str:
    asked = UploadRequest(kind=ArtifactKind.MODEL, digest=digest, size=size)
    with ledger.write() as tx:
        return uploads.create(tx, ALICE, asked, most=100, keep_s=KEEP_S).id


def test_an_upload_in_parts_counts_whole_from_its_first_byte_and_once(ledger: Database) -> None:
    limit(ledger, max_bytes=100)
    upload_id = announce(ledger, MODEL, 60)
    with ledger.read() as tx:
        assert tenants.everyone(tx, ALICE)[0].bytes == 60
    for digest in (MODEL, SAMPLES):
        with pytest.raises(QuotaError, match="60 of 100"):
            announce(ledger, digest, 41)
    with (
        ledger.write() as tx
    ):  # as when the upload is complete: its promise and the artifact are the same bytes
        tenants.may_store(tx, ALICE, MODEL, 60)
        artifacts.record(tx, ALICE, MODEL, 60, KEEP_S)
        uploads.complete(tx, ALICE, upload_id, KEEP_S, lambda *_: None)
    with ledger.read() as tx:
        assert tenants.everyone(tx, ALICE)[0].bytes == 60
    announce(ledger, SAMPLES, 40)


def test_a_deleted_upload_gives_its_bytes_back(ledger: Database) -> None:
    limit(ledger, max_bytes=100)
    upload_id = announce(ledger, MODEL, 100)
    with ledger.write() as tx:
        uploads.delete(tx, ALICE, upload_id, lambda *_: None)
    announce(ledger, SAMPLES, 100)


def test_racing_announcements_stop_at_the_limit(ledger: Database) -> None:
    limit(ledger, max_bytes=50)
    answers = race(lambda number: announce(ledger, f"sha256:{number:064x}", 10) and "ok")
    assert (answers.count("ok"), answers.count("413 quota.bytes")) == (5, RACERS - 5)
