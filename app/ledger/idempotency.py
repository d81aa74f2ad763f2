"""A repeated request gets the first answer, and does nothing.

The key is reserved in the transaction that makes the job: whoever comes second with the same key waits for that commit
and then reads the answer, so two of them can never both make a job.
"""

import sqlalchemy as sa

from app.errors import RequestError
from app.ledger.database import after, insert, now
from app.ledger.tables import idempotency_keys


def replay(tx: sa.Connection, tenant_id: str, key: str, fingerprint: str, keep_s: float) -> str | None:
    """The first answer to this key; None, and the key reserved, where this is the first request.

    Raises `RequestError` (idempotency.mismatch) when the key came with another request before.
    """
    mine = sa.and_(idempotency_keys.c.tenant_id == tenant_id, idempotency_keys.c.key == key)
    tx.execute(sa.delete(idempotency_keys).where(mine, idempotency_keys.c.expires_at <= now()))
    reserved = tx.scalar(
        insert(tx, idempotency_keys)
        .values(tenant_id=tenant_id, key=key, fingerprint=fingerprint, answer="", expires_at=after(keep_s))
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.key)
    )
    if reserved is not None:
        return None
    first = tx.execute(sa.select(idempotency_keys).where(mine)).one()
    if first.fingerprint != fingerprint:
        raise RequestError(
            "This Idempotency-Key came with another request before.",
            status=422,
            code="idempotency.mismatch",
            remedy="Use a new key for a new request, and the old one only to repeat the old request.",
        )
    return str(first.answer)


def remember(tx: sa.Connection, tenant_id: str, key: str, answer: str) -> None:
    """Keep the answer to a key that this transaction reserved."""
    tx.execute(
        sa.update(idempotency_keys)
        .where(idempotency_keys.c.tenant_id == tenant_id, idempotency_keys.c.key == key)
        .values(answer=answer)
    )
