"""The events of a job as a stream (server-sent events).

They come out of the ledger and from nowhere else, a few at a time: a stream holds no buffer, can be resumed at any
event on any process, and costs one short query between two looks.
"""

import time
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.service import OpenService, Service, Tenant
from app.contract.event import EVENTS
from app.ledger import events, jobs
from app.ledger.events import News

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
LOOK_S = 0.5  # between two looks at the ledger
BATCH = 100  # events of one look
RETRY_MS = 2000  # what a client waits before it comes back
STREAM = {
    "responses": {
        "200": {
            "description": "One event a block: `id`, `event` (state, step) and `data` (StateEvent, StepEvent)",
        }
    }
}


def _present(job_id: str, service: OpenService, tenant: Tenant) -> str:
    """The id of a job that is there: what is wrong has to be said before the stream begins."""
    with service.database.read() as tx:
        return jobs.present(tx, tenant, job_id).id


@router.get("/{job_id}/events", response_class=EventSourceResponse, openapi_extra=STREAM)
async def stream_events(
    job_id: Annotated[str, Depends(_present)],
    service: OpenService,
    last: Annotated[str, Header(alias="Last-Event-ID", pattern=r"^\d{1,18}$")] = "0",
) -> AsyncIterator[ServerSentEvent]:
    """Everything that happened and happens, until the job is over; `Last-Event-ID` resumes behind that event.

    The stream also ends after `max_stream_s` of `/v1/limits`; a client then comes back with the last id that it saw.
    """
    last_id = int(last)
    until = time.monotonic() + service.settings.limits.max_stream_s
    yield ServerSentEvent(retry=RETRY_MS)
    while True:
        news = await run_in_threadpool(_news, service, job_id, last_id)
        for row in news.rows:
            last_id = row.id
            told = EVENTS[row.type].model_validate({**row.data, "attempt": row.attempt, "at": row.at / 1000})
            yield ServerSentEvent(
                id=str(row.id), event=row.type, raw_data=told.model_dump_json(exclude_none=True)
            )
        if len(news.rows) == BATCH:
            continue
        if news.over or time.monotonic() >= until:
            return
        await anyio.sleep(LOOK_S)


def _news(service: Service, job_id: str, last_id: int) -> News:
    with service.database.read() as tx:
        return events.news(tx, job_id, last_id, BATCH)
