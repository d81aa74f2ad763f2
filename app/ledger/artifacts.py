"""Bytes by digest, each tenant's its own: nobody learns from an upload whether somebody else holds the same file."""

from collections.abc import Callable

import sqlalchemy as sa

from app.ledger.database import after, insert, now
from app.ledger.tables import artifacts, job_artifacts

Remove = Callable[[str, str], None]  # of the bytes of (tenant, digest)


def record(tx: sa.Connection, tenant_id: str, digest: str, size: int, keep_s: float) -> None:
    """Write down that the bytes are there, or that they are kept for longer.

    The caller moves the bytes into place after this and before the commit: the row is locked until then, so nobody
    deletes under their hands.
    """
    row = {"tenant_id": tenant_id, "digest": digest, "size": size}
    statement = insert(tx, artifacts).values(**row, created_at=now(), expires_at=after(keep_s))
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=[artifacts.c.tenant_id, artifacts.c.digest],
            set_={"expires_at": statement.excluded.expires_at},
        )
    )


def find(tx: sa.Connection, tenant_id: str, digest: str) -> int | None:
    """The size of what the tenant holds under `digest`, in bytes; None where it holds nothing."""
    size: int | None = tx.scalar(
        sa.select(artifacts.c.size).where(
            artifacts.c.tenant_id == tenant_id,
            artifacts.c.digest == digest,
            artifacts.c.expires_at > now(),
        )
    )
    return size


def keep(tx: sa.Connection, tenant_id: str, digest: str, keep_s: float) -> bool:
    """Lock what is there and keep it for longer; False where nothing is there."""
    asked = {"of": tenant_id, "under": digest, "keep_ms": round(keep_s * 1000)}
    return tx.execute(_KEPT, asked).rowcount == 1


def delete_unused(tx: sa.Connection, tenant_id: str, digests: list[str], remove: Remove) -> int:
    """Delete those rows, and the bytes, that no job names; the number deleted.

    Bytes go before the commit. Should the process die between, the row stays behind them: expired or unused, so it
    goes with the next call, and a new upload puts the bytes back.
    """
    those = sa.and_(artifacts.c.tenant_id == tenant_id, artifacts.c.digest.in_(digests))
    tx.execute(sa.select(artifacts.c.digest).where(those).order_by(artifacts.c.digest).with_for_update())
    used = sa.exists().where(
        job_artifacts.c.tenant_id == artifacts.c.tenant_id, job_artifacts.c.digest == artifacts.c.digest
    )
    gone = tx.scalars(
        sa.delete(artifacts)
        .where(those, ~used)  # in a statement of its own, so that it sees what a submit just committed
        .returning(artifacts.c.digest)
    ).all()
    for digest in gone:
        remove(tenant_id, digest)
    return len(gone)


# Built once: to put a statement together takes SQLAlchemy longer than this takes the database.
_KEPT = (
    sa.update(artifacts)
    .where(
        artifacts.c.tenant_id == sa.bindparam("of"),
        artifacts.c.digest == sa.bindparam("under"),
        artifacts.c.expires_at > now(),
    )
    .values(expires_at=now() + sa.bindparam("keep_ms", type_=sa.BigInteger))
)
