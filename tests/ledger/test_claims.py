"""Claims, leases, fences and ends; on both databases. Time passes by moving the row, not by waiting."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from app.contract.artifact import Artifact, ArtifactKind
from app.contract.findings import VerdictLabel
from app.contract.job import Job, JobState, Stage
from app.contract.problem import Problem
from app.contract.report import Outcome
from app.ledger import claims, events, jobs, reaper
from app.ledger.claims import Claim, Pulse
from app.ledger.database import Database
from app.ledger.tables import jobs as jobs_table
from app.settings import Clocks
from tests.ledger.asking import ALICE, BOB, KEEP_S, find, submit

CLOCKS = Clocks()
PROBLEM = Problem(code="model.unreadable", detail="It is cut.", remedy="Upload it again.")
REPORT = Artifact(digest=f"sha256:{'c' * 64}", size=3, kind=ArtifactKind.REPORT, name="report.json")


def claim(ledger: Database, pool: str = "cpu") -> Claim | None:
    with ledger.write() as tx:
        return claims.claim(tx, pool, "me", CLOCKS)


def held(ledger: Database, pool: str = "cpu") -> Claim:
    found = claim(ledger, pool)
    assert found is not None
    return found


def pass_time(ledger: Database, job: Job, **columns: Any) -> None:
    with ledger.write() as tx:
        tx.execute(sa.update(jobs_table).where(jobs_table.c.id == job.id).values(**columns))


def reap(ledger: Database) -> int:
    with ledger.write() as tx:
        return reaper.reap(tx, CLOCKS)


def succeed(ledger: Database, mine: Claim) -> bool:
    with ledger.write() as tx:
        return claims.succeed(tx, mine, [REPORT], VerdictLabel.SUSPICIOUS, Outcome.REPAIRED, KEEP_S)


def test_every_job_is_claimed_by_one_of_many_workers(ledger: Database) -> None:
    submitted = {submit(ledger, tenant).id for tenant in (ALICE, BOB) for _ in range(10)}
    with ThreadPoolExecutor(8) as workers:
        found = [mine for mine in workers.map(lambda _: claim(ledger), range(40)) if mine is not None]
    assert len(found) == len(submitted)
    assert {mine.job.id for mine in found} == submitted
    assert {mine.job.attempt for mine in found} == {1}


def test_a_thousand_jobs_of_one_tenant_do_not_delay_another_by_more_than_one(ledger: Database) -> None:
    for _ in range(30):
        submit(ledger, ALICE)
    first = held(ledger)
    alone = submit(ledger, BOB)
    assert held(ledger).job.id == alone.id
    assert first.tenant_id == ALICE


def test_a_pool_sees_only_its_own_jobs(ledger: Database) -> None:
    job = submit(ledger, pool="gpu")
    assert claim(ledger, "cpu") is None
    assert held(ledger, "gpu").job.id == job.id


def test_a_job_succeeds_once_with_its_outputs(ledger: Database) -> None:
    submit(ledger)
    mine = held(ledger)
    assert succeed(ledger, mine)
    assert not succeed(ledger, mine)
    job = find(ledger, mine.job)
    assert (job.state, job.verdict, job.outcome, job.fraction) == (
        JobState.SUCCEEDED, VerdictLabel.SUSPICIOUS, Outcome.REPAIRED, 1.0,
    )  # fmt: skip
    assert job.output(ArtifactKind.REPORT) == REPORT
    assert job.expires_at is not None


def test_a_screening_ends_without_verdict_and_outcome(ledger: Database) -> None:
    submit(ledger)
    mine = held(ledger)
    with ledger.write() as tx:
        assert claims.succeed(tx, mine, [REPORT], None, None, KEEP_S)
    job = find(ledger, mine.job)
    assert (job.state, job.verdict, job.outcome) == (JobState.SUCCEEDED, None, None)


def test_whoever_lost_the_lease_writes_nothing_any_more(ledger: Database) -> None:
    job = submit(ledger)
    stale = held(ledger)
    pass_time(ledger, job, lease_until=0)
    assert reap(ledger) == 1
    pass_time(ledger, job, not_before=0)
    mine = held(ledger)
    assert (stale.job.attempt, mine.job.attempt) == (1, 2)
    with ledger.write() as tx:
        assert claims.heartbeat(tx, stale, CLOCKS) is None
        assert not claims.step(tx, stale, Stage.LOAD, 0.5, {}, CLOCKS)
        assert not claims.fail(tx, stale, PROBLEM)
        assert not claims.release(tx, stale)
        assert not claims.lose(tx, stale, "stale", CLOCKS)
    assert not succeed(ledger, stale)
    assert find(ledger, job).state is JobState.RUNNING
    assert succeed(ledger, mine)


def test_a_heartbeat_keeps_the_lease_and_tells_what_the_ledger_wants(ledger: Database) -> None:
    job = submit(ledger)
    mine = held(ledger)
    with ledger.write() as tx:
        assert claims.heartbeat(tx, mine, CLOCKS) == Pulse(cancel=False, stalled=False, late=False)
    assert reap(ledger) == 0
    with ledger.write() as tx:
        assert jobs.cancel(tx, ALICE, job.id).state is JobState.RUNNING
    pass_time(ledger, job, stalls_at=0, deadline_at=0)
    with ledger.write() as tx:
        assert claims.heartbeat(tx, mine, CLOCKS) == Pulse(cancel=True, stalled=True, late=True)


def test_progress_never_falls_and_is_kept_in_order(ledger: Database) -> None:
    job = submit(ledger)
    mine = held(ledger)
    for stage, fraction in ((Stage.UNLEARN, 0.3), (Stage.UNLEARN, 0.1), (Stage.RECOVER, 0.5)):
        with ledger.write() as tx:
            assert claims.step(tx, mine, stage, fraction, {"fraction": fraction}, CLOCKS)
    now = find(ledger, job)
    assert (now.stage, now.fraction) == (Stage.RECOVER, 0.5)
    assert now.eta_s is not None
    with ledger.read() as tx:
        told = events.since(tx, job.id, 0, 100)
    assert [event.type for event in told] == ["state", "state", "step", "step", "step"]
    assert [event.id for event in told] == sorted({event.id for event in told})
    with ledger.read() as tx:
        assert [event.id for event in events.since(tx, job.id, told[2].id, 1)] == [told[3].id]


def test_three_lost_workers_poison_a_job(ledger: Database) -> None:
    job = submit(ledger)
    for attempt in (1, 2, 3):
        assert held(ledger).job.attempt == attempt
        pass_time(ledger, job, lease_until=0)
        assert reap(ledger) == 1
        pass_time(ledger, job, not_before=0)
    poisoned = find(ledger, job)
    assert poisoned.state is JobState.FAILED
    assert poisoned.problem is not None
    assert poisoned.problem.code == "job.poisoned"
    assert claim(ledger) is None


def test_a_drained_job_is_queued_again_and_counts_no_loss(ledger: Database) -> None:
    job = submit(ledger)
    for attempt in range(1, 6):
        mine = held(ledger)
        assert mine.job.attempt == attempt
        with ledger.write() as tx:
            assert claims.release(tx, mine)
    assert find(ledger, job).state is JobState.QUEUED


@pytest.mark.parametrize(("column", "code"), [("stalls_at", "job.stalled"), ("deadline_at", "job.deadline")])
def test_stalls_and_deadlines_end_a_job_even_when_its_worker_does_not(
    ledger: Database, column: str, code: str
) -> None:
    job = submit(ledger)
    mine = held(ledger)
    pass_time(ledger, job, **{column: 0})
    assert reap(ledger) == 1
    ended = find(ledger, job)
    assert ended.problem is not None
    assert (ended.state, ended.problem.code) == (JobState.FAILED, code)
    assert not succeed(ledger, mine)


def test_a_lost_job_that_was_to_be_canceled_is_canceled(ledger: Database) -> None:
    job = submit(ledger)
    held(ledger)
    with ledger.write() as tx:
        jobs.cancel(tx, ALICE, job.id)
    pass_time(ledger, job, lease_until=0)
    assert reap(ledger) == 1
    assert find(ledger, job).state is JobState.CANCELED


def test_racing_reapers_count_a_loss_once(ledger: Database) -> None:
    submitted = [submit(ledger) for _ in range(10)]
    for job in submitted:
        held(ledger)
        pass_time(ledger, job, lease_until=0)
    with ThreadPoolExecutor(4) as reapers:
        for job in submitted:
            pass_time(ledger, job, lease_until=0)
        reaped = sum(reapers.map(lambda _: reap(ledger), range(4)))
    assert reaped == len(submitted)
    with ledger.read() as tx:
        losses = tx.scalars(sa.select(jobs_table.c.losses)).all()
    assert set(losses) == {1}
