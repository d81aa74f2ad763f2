"""The ledger's tables. Times are whole milliseconds since 1970, read from the database's clock and no other.

tenants ── keys            who may ask
   ├── artifacts           bytes that were uploaded or made, by digest
   ├── jobs ── job_artifacts, events
   ├── uploads ── upload_parts
   └── idempotency_keys    first answers, for as long as they are replayed

The queued rows of `jobs` are the outbox of the bell: a ring that is lost is made good by the next look at them.
"""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

TIME = sa.BigInteger

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("served_at", TIME, nullable=False, server_default="0"),  # when a job of theirs was last claimed
    sa.Column("max_queued", sa.Integer),  # null: no quota
    sa.Column("max_running", sa.Integer),
    sa.Column("max_bytes", sa.BigInteger),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column(
        "hash", sa.String(64), nullable=False
    ),  # keyed; the key itself is shown once and stored nowhere
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("expires_at", TIME),
    sa.Column("revoked_at", TIME),
    sa.Column("used_at", TIME),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("digest", sa.String(71), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("expires_at", TIME, nullable=False),
    sa.Index("ix_artifacts_expires_at", "expires_at"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("pool", sa.String(32), nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("triggered_target", sa.Integer),
    sa.Column("rerun_of", sa.String(36)),
    sa.Column("stage", sa.String(16)),
    sa.Column("fraction", sa.Float, nullable=False, server_default="0"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),  # the fencing token
    sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
    sa.Column("holder", sa.String(64)),
    sa.Column("lease_until", TIME),
    sa.Column("stalls_at", TIME),
    sa.Column("deadline_at", TIME),
    sa.Column("not_before", TIME, nullable=False),
    sa.Column("cancel_requested_at", TIME),
    sa.Column("verdict", sa.String(16)),
    sa.Column("outcome", sa.String(16)),
    sa.Column("problem", sa.JSON(none_as_null=True)),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("started_at", TIME),  # of the first attempt
    sa.Column("claimed_at", TIME),  # of the last one
    sa.Column("finished_at", TIME),
    sa.Column("keep_ms", sa.BigInteger, nullable=False),  # from its end to its expiry
    sa.Column("expires_at", TIME),
    sa.Index("ix_jobs_page", "tenant_id", "created_at", "id"),
    sa.Index("ix_jobs_queue", "state", "tenant_id", "pool", "created_at", "id"),
    sa.Index("ix_jobs_lease", "state", "lease_until"),
    sa.Index("ix_jobs_expiry", "state", "expires_at"),
    sa.Index("ix_jobs_finished_at", "finished_at"),
)

job_artifacts = sa.Table(
    "job_artifacts",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("tenant_id", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.ForeignKeyConstraint(["tenant_id", "digest"], ["artifacts.tenant_id", "artifacts.digest"]),
    sa.Index("ix_job_artifacts_use", "tenant_id", "digest"),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("at", TIME, nullable=False),
    sa.Index("ix_events_stream", "job_id", "id"),
    sqlite_autoincrement=True,  # an id that was given is never given again
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),  # promised
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("completed_at", TIME),
    sa.Column("expires_at", TIME, nullable=False),
    sa.Index("ix_uploads_tenant_id", "tenant_id"),
    sa.Index("ix_uploads_expires_at", "expires_at"),
)

upload_parts = sa.Table(
    "upload_parts",
    metadata,
    sa.Column("upload_id", sa.ForeignKey("uploads.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("tenant_id", sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("answer", sa.Text, nullable=False),  # the first answer, as it was sent
    sa.Column("expires_at", TIME, nullable=False),
    sa.Index("ix_idempotency_keys_expires_at", "expires_at"),
)
