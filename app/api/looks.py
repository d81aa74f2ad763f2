"""Looks at jobs. Those that arrive while others are being answered are asked together: one thread, one transaction.

Fifty clients that poll would otherwise each take a thread, and the threads would mostly wait for one another.
"""

import asyncio

from anyio import CapacityLimiter, to_thread

from app.contract.job import Job
from app.ledger.database import Database
from app.ledger.jobs import Owned, find_all, kept, there

AT_ONCE = 100  # jobs in one transaction


class Looks:
    """Answers many who ask for a job with few transactions. Lives on one event loop."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.waiting: dict[Owned, asyncio.Future[Job | None]] = {}
        self.looking: asyncio.Task[None] | None = None
        self.thread = CapacityLimiter(1)  # of their own: writers keep nobody from looking

    async def present(self, tenant_id: str, job_id: str) -> Job:
        """See `ledger.jobs.present`. The look begins after the call: whatever is committed before, it sees."""
        one = Owned(tenant_id, job_id)
        answer = self.waiting.setdefault(one, asyncio.get_running_loop().create_future())
        if self.looking is None:
            self.looking = asyncio.create_task(self._look())
        return kept(there(await asyncio.shield(answer), job_id))  # others may wait for the same answer

    async def _look(self) -> None:
        while self.waiting:
            asked = {one: self.waiting.pop(one) for one in list(self.waiting)[:AT_ONCE]}
            try:
                found = await to_thread.run_sync(self._find, set(asked), limiter=self.thread)
            except Exception as error:  # noqa: BLE001 - whoever waits is told
                for answer in asked.values():
                    answer.set_exception(error)
                    answer.exception()  # nobody may wait any more
            else:
                for one, answer in asked.items():
                    answer.set_result(found.get(one))
        self.looking = None

    def _find(self, wanted: set[Owned]) -> dict[Owned, Job]:
        with self.database.read() as tx:
            return find_all(tx, wanted)
