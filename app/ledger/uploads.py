"""Uploads in parts: what was promised, and what has arrived.

The bytes of a part lie in the store under (upload, digest), as those of an artifact lie under (tenant, digest). Every
write locks the upload's row first, so that parts of one upload come and go one after the other.
"""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from app.contract.upload import Part, Upload, UploadRequest
from app.errors import ConflictError, RequestError, UnknownError
from app.ledger.artifacts import Remove
from app.ledger.database import after, insert, now
from app.ledger.rows import when
from app.ledger.tables import tenants, upload_parts, uploads
from app.ledger.tenants import may_promise


def create(tx: sa.Connection, tenant_id: str, asked: UploadRequest, *, most: int, keep_s: float) -> Upload:
    """A new upload. Raises `QuotaError`, and `ConflictError` (upload.too_many) where `most` are on their way."""
    tx.execute(sa.select(tenants.c.id).where(tenants.c.id == tenant_id).with_for_update())
    may_promise(tx, tenant_id, asked.digest, asked.size)
    mine = sa.and_(
        uploads.c.tenant_id == tenant_id, uploads.c.completed_at.is_(None), uploads.c.expires_at > now()
    )
    if tx.execute(sa.select(sa.func.count()).where(mine)).scalar_one() >= most:
        raise ConflictError(
            f"{most} uploads are on their way already.",
            code="upload.too_many",
            remedy="Complete or delete one of them first.",
        )
    upload_id = f"up_{uuid4().hex}"
    tx.execute(
        sa.insert(uploads).values(
            id=upload_id,
            tenant_id=tenant_id,
            **asked.model_dump(mode="json"),
            created_at=now(),
            expires_at=after(keep_s),
        )
    )
    return find(tx, tenant_id, upload_id)


def find(tx: sa.Connection, tenant_id: str, upload_id: str, *, lock: bool = False) -> Upload:
    """The upload. Raises `UnknownError` where there is none, it is another tenant's, or its time is over."""
    mine = sa.select(uploads).where(
        uploads.c.id == upload_id, uploads.c.tenant_id == tenant_id, uploads.c.expires_at > now()
    )
    row = tx.execute(mine.with_for_update() if lock else mine).one_or_none()
    if row is None:
        raise UnknownError(f"There is no upload {upload_id!r}.", code="upload.unknown")
    return Upload(
        id=row.id,
        kind=row.kind,
        digest=row.digest,
        size=row.size,
        name=row.name,
        parts=tuple(Part(number=p.number, size=p.size, digest=p.digest) for p in _parts(tx, upload_id)),
        completed=row.completed_at is not None,
        expires_at=when(row.expires_at),
    )


def put(
    tx: sa.Connection,
    tenant_id: str,
    upload_id: str,
    part: Part,
    *,
    keep_s: float,
    publish: Callable[[], None],
    remove: Remove,
) -> None:
    """Write down that a part is there; the same part again changes nothing, another one takes its place.

    Raises `UnknownError`, `ConflictError` (upload.completed), `RequestError` (request.too_large).
    """
    upload = find(tx, tenant_id, upload_id, lock=True)
    if upload.completed:
        raise ConflictError(
            f"Upload {upload_id} is complete.",
            code="upload.completed",
            remedy="Use the artifact by its digest.",
        )
    others = [other for other in upload.parts if other.number != part.number]
    if sum(other.size for other in others) + part.size > upload.size:
        raise RequestError(
            f"With this part there are more than the {upload.size:,} bytes that were promised.",
            status=413,
            code="request.too_large",
            remedy="GET the upload: it lists its parts. Send one again, or delete the upload.",
        )
    row = {"size": part.size, "digest": part.digest}
    tx.execute(
        insert(tx, upload_parts)
        .values(upload_id=upload_id, number=part.number, **row)
        .on_conflict_do_update(index_elements=[upload_parts.c.upload_id, upload_parts.c.number], set_=row)
    )
    tx.execute(sa.update(uploads).where(uploads.c.id == upload_id).values(expires_at=after(keep_s)))
    kept = {part.digest, *(other.digest for other in others)}
    for digest in {before.digest for before in upload.parts} - kept:
        remove(upload_id, digest)
    publish()


def complete(tx: sa.Connection, tenant_id: str, upload_id: str, keep_s: float, remove: Remove) -> None:
    """Remember that the whole file is there, and forget the parts."""
    find(tx, tenant_id, upload_id, lock=True)
    tx.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id)
        .values(completed_at=sa.func.coalesce(uploads.c.completed_at, now()), expires_at=after(keep_s))
    )
    _forget(tx, upload_id, remove)


def delete(tx: sa.Connection, tenant_id: str, upload_id: str, remove: Remove) -> None:
    """Forget an upload with its parts. Raises `UnknownError`."""
    find(tx, tenant_id, upload_id, lock=True)
    _forget(tx, upload_id, remove)
    tx.execute(sa.delete(uploads).where(uploads.c.id == upload_id))


def expire(tx: sa.Connection, limit: int, remove: Remove) -> int:
    """Forget at most `limit` uploads whose time is over; the number of them."""
    over = sa.select(uploads.c.id).where(uploads.c.expires_at < now())
    gone = tx.scalars(over.limit(limit).with_for_update(skip_locked=True)).all()
    for upload_id in gone:
        _forget(tx, upload_id, remove)
        tx.execute(sa.delete(uploads).where(uploads.c.id == upload_id))
    return len(gone)


def _parts(tx: sa.Connection, upload_id: str) -> list[sa.Row[Any]]:
    found = sa.select(upload_parts).where(upload_parts.c.upload_id == upload_id)
    return list(tx.execute(found.order_by(upload_parts.c.number)))


def _forget(tx: sa.Connection, upload_id: str, remove: Remove) -> None:
    digests = tx.scalars(
        sa.delete(upload_parts).where(upload_parts.c.upload_id == upload_id).returning(upload_parts.c.digest)
    ).all()
    for digest in set(digests):
        remove(upload_id, digest)
