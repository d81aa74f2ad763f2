"""Uploads: one raw body, one artifact."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from app.api.bodies import pour, refuse_larger
from app.api.service import OpenService, Tenant
from app.blobs.interface import Staged, Staging
from app.contract.artifact import Artifact, Digest, FileName, InputKind
from app.contract.frozen import Frozen
from app.errors import RequestError

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])
RAW = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"format": "binary"}}},
    }
}


class Upload(Frozen):
    """What the query says of the body."""

    kind: InputKind
    name: FileName = ""
    digest: Digest | None = None


@router.put("", status_code=201, openapi_extra=RAW)
async def put_artifact(
    request: Request, upload: Annotated[Upload, Query()], service: OpenService, tenant: Tenant
) -> Artifact:
    """Store the body under its SHA-256. Give `digest` to have it refused when it arrives damaged."""
    limits = service.settings.limits
    refuse_larger(request, limits.max_bytes(upload.kind))
    staging = await run_in_threadpool(service.blobs.stage, limits.max_bytes(upload.kind))
    try:
        await pour(request, staging.write, limits)
        staged = await run_in_threadpool(finish, staging, upload.digest)
        await run_in_threadpool(service.store, tenant, staged)
    finally:
        await run_in_threadpool(staging.discard)
    return Artifact(digest=staged.digest, size=staged.size, kind=upload.kind, name=upload.name)


def finish(staging: Staging, promised: str | None) -> Staged:
    """The staged bytes. Raises `RequestError` (artifact.digest_mismatch) where they are not the promised ones."""
    staged = staging.finish()
    if promised is not None and staged.digest != promised:
        raise RequestError(
            f"The body is {staged.digest}, and {promised} was promised.",
            status=422,
            code="artifact.digest_mismatch",
            remedy="Upload the file again; it changed on its way.",
        )
    return staged
