"""Uploads in numbered parts, for files that a broken connection should not start again."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool

from app.api.artifacts import RAW, finish
from app.api.bodies import pour, read, refuse_larger
from app.api.problems import parse
from app.api.service import OpenService, Service, Tenant
from app.blobs.interface import Staged
from app.contract.artifact import Artifact, Digest
from app.contract.frozen import Frozen
from app.contract.upload import Part, Upload, UploadRequest
from app.errors import RequestError
from app.ledger import uploads

router = APIRouter(prefix="/v1/uploads", tags=["artifacts"])
ASKED = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/UploadRequest"}}},
    }
}


class PartQuery(Frozen):
    """What the query says of the body."""

    digest: Digest | None = None


@router.post("", status_code=201, openapi_extra=ASKED)
async def create_upload(request: Request, service: OpenService, tenant: Tenant) -> Upload:
    """Announce a file. Its parts may then come in any order, and the same part more than once."""
    limits = service.settings.limits
    asked = parse(UploadRequest, await read(request, limits.max_json_bytes, limits) or b"{}", "")
    if asked.size > limits.max_bytes(asked.kind):
        raise RequestError(
            f"{asked.size:,} bytes are more than the {limits.max_bytes(asked.kind):,} that are allowed.",
            status=413,
            code="request.too_large",
            remedy="GET /v1/limits lists what is allowed; the operator can raise it.",
        )
    return await run_in_threadpool(_create, service, tenant, asked)


@router.get("/{upload_id}")
def get_upload(upload_id: str, service: OpenService, tenant: Tenant) -> Upload:
    """The upload, and the parts that have arrived."""
    with service.database.read() as tx:
        return uploads.find(tx, tenant, upload_id)


@router.put("/{upload_id}/parts/{number}", openapi_extra=RAW)
async def put_part(
    request: Request,
    upload_id: str,
    number: Annotated[int, Path(ge=1, le=1_000_000)],
    query: Annotated[PartQuery, Query()],
    service: OpenService,
    tenant: Tenant,
) -> Part:
    """Store the body as one part. The same part again changes nothing; other bytes take its place."""
    limits = service.settings.limits
    if number > limits.max_parts:
        raise RequestError(
            f"An upload has at most {limits.max_parts} parts.", status=422, code="upload.parts"
        )
    upload = await run_in_threadpool(get_upload, upload_id, service, tenant)
    refuse_larger(request, upload.size)
    staging = await run_in_threadpool(service.blobs.stage, upload.size)
    try:
        await pour(request, staging.write, limits)
        staged = await run_in_threadpool(finish, staging, query.digest)
        return await run_in_threadpool(_put, service, tenant, upload_id, number, staged)
    finally:
        await run_in_threadpool(staging.discard)


@router.post("/{upload_id}:complete", status_code=201)
def complete_upload(upload_id: str, service: OpenService, tenant: Tenant) -> Artifact:
    """Join the parts by their numbers and check the whole against the promised size and digest. May be repeated."""
    upload = get_upload(upload_id, service, tenant)
    if not upload.completed:
        _join(service, tenant, upload)
    return Artifact(digest=upload.digest, size=upload.size, kind=upload.kind, name=upload.name)


@router.delete("/{upload_id}", status_code=204)
def delete_upload(upload_id: str, service: OpenService, tenant: Tenant) -> None:
    """Forget the upload with its parts; an artifact that was made of them stays."""
    with service.database.write() as tx:
        uploads.delete(tx, tenant, upload_id, service.blobs.remove)


def _create(service: Service, tenant: str, asked: UploadRequest) -> Upload:
    limits = service.settings.limits
    with service.database.write() as tx:
        return uploads.create(tx, tenant, asked, most=limits.max_uploads, keep_s=limits.upload_s)


def _put(service: Service, tenant: str, upload_id: str, number: int, staged: Staged) -> Part:
    if not staged.size:
        raise RequestError("The part is empty.", status=422, code="upload.empty_part")
    part = Part(number=number, size=staged.size, digest=staged.digest)
    with service.database.write() as tx:
        uploads.put(
            tx,
            tenant,
            upload_id,
            part,
            keep_s=service.settings.limits.upload_s,
            publish=partial(service.blobs.publish, upload_id, staged),
            remove=service.blobs.remove,
        )
    return part


def _join(service: Service, tenant: str, upload: Upload) -> None:
    """The parts as one artifact. Raises `RequestError` where a part is missing, or the whole is another file."""
    missing = set(range(1, len(upload.parts) + 1)) - {part.number for part in upload.parts}
    arrived = sum(part.size for part in upload.parts)
    if missing or arrived != upload.size:
        what = (
            f"part {min(missing)} is missing" if missing else f"{upload.size - arrived:,} bytes are missing"
        )
        raise RequestError(
            f"{arrived:,} of {upload.size:,} bytes have arrived, and {what}.",
            status=409,
            code="upload.incomplete",
            remedy=f"GET /v1/uploads/{upload.id} lists what is there; PUT what is not.",
        )
    staging = service.blobs.stage(upload.size)
    try:
        for part in upload.parts:
            for piece in service.blobs.read(upload.id, part.digest):
                staging.write(piece)
        service.store(tenant, finish(staging, upload.digest))
    finally:
        staging.discard()
    with service.database.write() as tx:
        uploads.complete(tx, tenant, upload.id, service.settings.limits.upload_s, service.blobs.remove)
