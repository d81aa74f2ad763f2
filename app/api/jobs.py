"""Jobs: create, look, list, cancel, run again, delete."""

import base64
import binascii
import hashlib
import json
import time
from typing import Annotated, TypeVar

import anyio
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from app.api.bodies import pour, read, refuse_larger
from app.api.form import Form, largest
from app.api.problems import parse
from app.api.service import HOUR_S, OpenService, Service, Tenant
from app.contract.artifact import Named
from app.contract.frozen import Frozen
from app.contract.job import Inputs, Job, JobKind, JobRequest, JobState
from app.contract.options import SanitizeOptions
from app.errors import RequestError
from app.ledger import idempotency, jobs
from app.ledger.jobs import Place

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
T = TypeVar("T", bound=Frozen)
LOOK_S = 0.5  # between two looks of a long poll
Key = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")
]
FORM = {
    "type": "object",
    "required": ["model", "samples"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string", "format": "binary"},
        "samples": {"type": "string", "format": "binary"},
        "suspects": {
            "type": "string",
            "format": "binary",
            "description": "for the kind screen, which needs it",
        },
        "triggered": {"type": "string", "format": "binary"},
        "kind": {"type": "string", "enum": [kind.value for kind in JobKind]},
        "options": {"type": "string", "contentMediaType": "application/json"},
        "triggered_target": {"type": "integer", "minimum": 0},
    },
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": FORM},
            "application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}},
        },
    }
}
CHANGES = {
    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Rerun"}}}}
}


class Rerun(Frozen):
    """What is to be different this time."""

    options: SanitizeOptions | None = Field(None, description="the whole options; None: as before")


class Look(Frozen):
    """How long to wait for news."""

    wait: float = Field(0, ge=0, description="seconds; until the end, or until If-None-Match does not match")


class PageQuery(Frozen):
    """Which page."""

    page_size: int = Field(20, ge=1)
    page_token: str | None = Field(None, max_length=200)
    state: JobState | None = None


class Page(Frozen):
    """Jobs, the newest first; another page follows where there is a token."""

    jobs: tuple[Job, ...]
    next_page_token: str | None


@router.post("", status_code=202, response_model=Job, openapi_extra=BODY)
async def create_job(request: Request, service: OpenService, tenant: Tenant, key: Key = None) -> Response:
    """Ask for a job, with its files in a form or by the digests of earlier uploads in JSON."""
    match request.headers.get("content-type", "").split(";")[0].strip().lower():
        case "multipart/form-data":
            asked = await _from_form(request, service, tenant)
        case "application/json":
            asked = await _from_json(request, service, JobRequest)
        case _:
            raise RequestError(
                "The body is neither a form nor JSON.", status=415, code="request.unsupported_media_type"
            )
    return await run_in_threadpool(_submit, service, tenant, asked, key, None)


@router.get("")
def list_jobs(query: Annotated[PageQuery, Query()], service: OpenService, tenant: Tenant) -> Page:
    """The newest jobs first."""
    size = min(query.page_size, service.settings.limits.page_size)
    place = _place(query.page_token) if query.page_token else None
    with service.database.read() as tx:
        found, last = jobs.page(tx, tenant, size, place, query.state)
    return Page(jobs=tuple(found), next_page_token=_token(last) if last else None)


@router.get("/{job_id}", response_model=Job)
async def get_job(
    job_id: str,
    look: Annotated[Look, Query()],
    service: OpenService,
    tenant: Tenant,
    known: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:
    """The job; with `wait`, when it is over or there is news, whichever the caller can tell apart."""
    until = time.monotonic() + min(look.wait, service.settings.limits.max_wait_s)
    while True:
        job = await service.looks.present(tenant, job_id)
        changed = known is not None and etag(job) != known
        if job.state.is_terminal or changed or time.monotonic() >= until:
            return _shown(job, known)
        await anyio.sleep(min(LOOK_S, max(0.0, until - time.monotonic())))


@router.post("/{job_id}:cancel", status_code=202, response_model=Job)
def cancel_job(job_id: str, service: OpenService, tenant: Tenant) -> Response:
    """Cancel a queued job now and a running one within seconds; a finished one stays as it is."""
    with service.database.write() as tx:
        job = jobs.cancel(tx, tenant, job_id)
    return _accepted(job)


@router.post("/{job_id}:rerun", status_code=202, response_model=Job, openapi_extra=CHANGES)
async def rerun_job(
    job_id: str, request: Request, service: OpenService, tenant: Tenant, key: Key = None
) -> Response:
    """A new job with the same inputs, and the same options unless others are given."""
    changes = await _from_json(request, service, Rerun)
    return await run_in_threadpool(_rerun, service, tenant, job_id, changes, key)


@router.delete("/{job_id}", status_code=204)
def delete_job(job_id: str, service: OpenService, tenant: Tenant) -> None:
    """Delete a finished job with its bytes; asking for it answers 410 from then on."""
    with service.database.write() as tx:
        jobs.delete(tx, tenant, job_id, service.blobs.remove)


def etag(job: Job) -> str:
    """A tag that changes when the job does; the guess of its end does not count."""
    told = job.model_dump_json(exclude={"eta_s"})
    return f'W/"{hashlib.sha256(told.encode()).hexdigest()[:32]}"'


async def _from_form(request: Request, service: Service, tenant: str) -> JobRequest:
    limits = service.settings.limits
    refuse_larger(request, largest(limits))
    form = Form(request.headers["content-type"], service.blobs, limits)
    try:
        await pour(request, form.write, limits)
        asked, staged = form.request()
        for file in staged:
            await run_in_threadpool(service.store, tenant, file)
    finally:
        await run_in_threadpool(form.discard)
    return asked


async def _from_json(request: Request, service: Service, model: type[T]) -> T:
    limits = service.settings.limits
    refuse_larger(request, limits.max_json_bytes)
    body = await read(request, limits.max_json_bytes, limits)
    return parse(model, body or b"{}", "")


def _submit(
    service: Service, tenant: str, asked: JobRequest, key: str | None, rerun_of: str | None
) -> Response:
    """The job's first answer, or the same again under a known key; the bell rings after the commit."""
    fingerprint = hashlib.sha256(f"{rerun_of} {asked.model_dump_json()}".encode()).hexdigest()
    with service.database.write() as tx:
        if key is not None:
            keep_s = service.settings.limits.idempotency_hours * HOUR_S
            first = idempotency.replay(tx, tenant, key, fingerprint, keep_s)
            if first is not None:
                return _accepted(Job.model_validate_json(first), replayed=True)
        job = jobs.submit(
            tx,
            tenant,
            asked,
            pool=service.settings.pool,
            keep_s=service.settings.limits.keep_s,
            rerun_of=rerun_of,
        )
        if key is not None:
            idempotency.remember(tx, tenant, key, job.model_dump_json())
    service.bell.ring(job.pool, job.id)
    return _accepted(job)


def _rerun(service: Service, tenant: str, job_id: str, changes: Rerun, key: str | None) -> Response:
    with service.database.read() as tx:
        before = jobs.present(tx, tenant, job_id)
    named = {item.kind.value: Named(digest=item.digest, name=item.name) for item in before.inputs}
    asked = JobRequest(
        kind=before.kind,
        inputs=Inputs(**named),
        options=changes.options or before.options,
        triggered_target=before.triggered_target,
    )
    return _submit(service, tenant, asked, key, job_id)


def _accepted(job: Job, *, replayed: bool = False) -> Response:
    headers = {"Location": f"/v1/jobs/{job.id}", "Retry-After": _retry_after(job)}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return _json(job, 202, headers)


def _shown(job: Job, known: str | None) -> Response:
    headers = {"ETag": etag(job)}
    if not job.state.is_terminal:
        headers["Retry-After"] = _retry_after(job)
    return (
        Response(status_code=304, headers=headers) if known == headers["ETag"] else _json(job, 200, headers)
    )


def _json(job: Job, status: int, headers: dict[str, str]) -> Response:
    return Response(
        job.model_dump_json(), status, {**headers, "Cache-Control": "no-store"}, "application/json"
    )


def _retry_after(job: Job) -> str:
    """Seconds until a look is worth it: often at first and near the end, seldom in a long middle."""
    if job.state is JobState.QUEUED:
        return str(min(30, 1 + (job.queue_position or 1)))
    return str(round(min(30.0, max(2.0, (job.eta_s or 0) / 10))))


def _token(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _place(token: str) -> Place:
    try:
        created_at, job_id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return Place(int(created_at), str(job_id))
    except (ValueError, TypeError, binascii.Error) as error:
        raise RequestError(
            "The page token is not one of ours.",
            status=422,
            code="request.page_token",
            remedy="Use next_page_token of the page before, or leave it out.",
        ) from error
