"""Submitting, looking, listing, canceling, deleting; on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.contract.job import FURTHEST, JobState
from app.errors import ConflictError, GoneError, RequestError, UnknownError
from app.ledger import artifacts, events, idempotency, jobs, reaper
from app.ledger.database import Database
from tests.ledger.asking import ALICE, BOB, KEEP_S, MODEL, REQUEST, SAMPLES, find, submit, upload


def test_a_job_is_queued_with_its_inputs_and_options(ledger: Database) -> None:
    job = submit(ledger)
    assert find(ledger, job) == job
    assert (job.state, job.attempt, job.queue_position) == (JobState.QUEUED, 0, 1)
    assert [(a.kind, a.digest, a.name, a.size) for a in job.inputs] == [
        ("model", MODEL, "m.pt", 10),
        ("samples", SAMPLES, "", 10),
    ]
    assert job.options == REQUEST.options


def test_inputs_must_have_been_uploaded_by_the_same_tenant(ledger: Database) -> None:
    upload(ledger, ALICE)
    with pytest.raises(RequestError, match="Nothing was uploaded"), ledger.write() as tx:
        jobs.submit(tx, BOB, REQUEST, pool="cpu", keep_s=KEEP_S)
    with ledger.read() as tx:
        assert jobs.page(tx, BOB, 10) == ([], None)


def test_another_tenants_job_is_as_unknown_as_none(ledger: Database) -> None:
    job = submit(ledger, ALICE)
    answers = []
    for job_id in (job.id, job.id[:-1] + "x"):
        with pytest.raises(UnknownError) as refused, ledger.read() as tx:
            jobs.find(tx, BOB, job_id)
        answers.append(refused.value.detail.replace(job_id, "ID"))
    assert answers[0] == answers[1]


def test_pages_are_complete_and_do_not_overlap(ledger: Database) -> None:
    submitted = [submit(ledger).id for _ in range(7)]
    submit(ledger, BOB)
    seen, place = [], None
    while True:
        with ledger.read() as tx:
            page, place = jobs.page(tx, ALICE, 3, place)
        seen.append([job.id for job in page])
        if place is None:
            break
    assert [len(page) for page in seen] == [3, 3, 1]
    assert sorted(job for page in seen for job in page) == sorted(submitted)


def test_the_queue_position_knows_that_tenants_take_turns(ledger: Database) -> None:
    crowd = [submit(ledger, ALICE) for _ in range(5)]
    alone = submit(ledger, BOB)
    assert find(ledger, alone, BOB).queue_position == 2
    assert find(ledger, crowd[-1]).queue_position == 6


def test_a_queued_job_is_canceled_at_once_and_again_without_effect(ledger: Database) -> None:
    job = submit(ledger)
    for _ in range(2):
        with ledger.write() as tx:
            assert jobs.cancel(tx, ALICE, job.id).state is JobState.CANCELED
    with ledger.read() as tx:
        states = [event.data["state"] for event in events.since(tx, job.id, 0, 10)]
    assert states == ["queued", "canceled"]


def test_deleting_removes_the_bytes_that_nobody_else_names(ledger: Database) -> None:
    job, removed = submit(ledger), []
    with pytest.raises(ConflictError, match="not finished"), ledger.write() as tx:
        jobs.delete(tx, ALICE, job.id, lambda *_: None)
    other = submit(ledger)
    for finished in (job, other):
        with ledger.write() as tx:
            jobs.cancel(tx, ALICE, finished.id)
    with ledger.write() as tx:
        jobs.delete(tx, ALICE, job.id, lambda tenant, digest: removed.append((tenant, digest)))
    assert removed == []
    with ledger.write() as tx:
        jobs.delete(tx, ALICE, other.id, lambda tenant, digest: removed.append((tenant, digest)))
    assert sorted(removed) == [(ALICE, MODEL), (ALICE, SAMPLES)]
    with pytest.raises(GoneError), ledger.read() as tx:
        jobs.present(tx, ALICE, job.id)
    assert find(ledger, job).state is JobState.EXPIRED


def test_what_is_over_expires_with_its_bytes(ledger: Database) -> None:
    removed: list[str] = []
    with ledger.write() as tx:
        artifacts.record(tx, ALICE, MODEL, 1, -1)
        artifacts.record(tx, ALICE, SAMPLES, 1, KEEP_S)
    with ledger.write() as tx:
        assert reaper.expire(tx, lambda _, digest: removed.append(digest)) == 1
    assert removed == [MODEL]
    with ledger.write() as tx:
        for digest in (MODEL, SAMPLES):
            artifacts.record(tx, ALICE, digest, 10, KEEP_S)
        job = jobs.submit(tx, ALICE, REQUEST, pool="cpu", keep_s=-1)
        jobs.cancel(tx, ALICE, job.id)
    with ledger.write() as tx:
        assert reaper.expire(tx, lambda *_: None) >= 1
    assert find(ledger, job).state is JobState.EXPIRED


def test_racing_requests_with_one_key_make_one_job(ledger: Database) -> None:
    upload(ledger)

    def ask(_: int) -> str:
        with ledger.write() as tx:
            if (first := idempotency.replay(tx, ALICE, "key", "print", 60)) is not None:
                return first
            job = jobs.submit(tx, ALICE, REQUEST, pool="cpu", keep_s=KEEP_S)
            idempotency.remember(tx, ALICE, "key", job.id)
            return job.id

    with ThreadPoolExecutor(16) as racers:
        answers = set(racers.map(ask, range(64)))
    assert len(answers) == 1
    with ledger.read() as tx:
        assert [job.id for job in jobs.page(tx, ALICE, 10)[0]] == list(answers)


def test_a_key_belongs_to_one_request_one_tenant_and_its_time(ledger: Database) -> None:
    with ledger.write() as tx:
        assert idempotency.replay(tx, ALICE, "key", "print", -1) is None
        idempotency.remember(tx, ALICE, "key", "first")
        assert idempotency.replay(tx, BOB, "key", "other", 60) is None
    with ledger.write() as tx:
        assert idempotency.replay(tx, ALICE, "key", "print", 60) is None
        idempotency.remember(tx, ALICE, "key", "second")
    with ledger.write() as tx:
        assert idempotency.replay(tx, ALICE, "key", "print", 60) == "second"
    with pytest.raises(RequestError, match="another request"), ledger.write() as tx:
        idempotency.replay(tx, ALICE, "key", "changed", 60)


def test_far_back_in_the_queue_nobody_counts(ledger: Database) -> None:
    crowd = [submit(ledger, ALICE) for _ in range(FURTHEST + 1)]
    late = submit(ledger, BOB)
    assert [find(ledger, crowd[place]).queue_position for place in (50, -2, -1)] == [52, FURTHEST, FURTHEST]
    assert find(ledger, late, BOB).queue_position == 2
