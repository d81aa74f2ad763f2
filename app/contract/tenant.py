"""A tenant's share, and what of it is in use."""

import re

from pydantic import Field

from app.contract.frozen import Frozen

TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")  # names a folder, too
MANY = 10**9


class Quota(Frozen):
    """The most that a tenant may have at once; None: no limit."""

    max_queued: int | None = Field(None, ge=0, le=MANY, description="jobs that wait")
    max_running: int | None = Field(None, ge=0, le=MANY, description="jobs that run")
    max_bytes: int | None = Field(None, ge=0, le=MANY * MANY, description="bytes, stored or promised")


NEWCOMER = Quota(max_queued=100, max_bytes=100 * 1024**3)


class TenantUsage(Frozen):
    """A tenant: its share, and what it uses of it now."""

    id: str
    quota: Quota
    queued: int
    running: int
    bytes: int
