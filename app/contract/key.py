"""API keys as their owners see them; the key itself is shown once and stored nowhere."""

import re
from datetime import datetime
from enum import StrEnum

from app.contract.frozen import Frozen

KEY_NAME = re.compile(r"(?=.*\S).{1,255}")


class Scope(StrEnum):
    """What a key may do. Every call needs exactly one, and its method says which."""

    READ = "read"
    SUBMIT = "submit"
    DELETE = "delete"

    @classmethod
    def of(cls, method: str) -> "Scope":
        """The scope that an HTTP method needs: GET and HEAD read, DELETE deletes, everything else submits."""
        match method.upper():
            case "GET" | "HEAD":
                return cls.READ
            case "DELETE":
                return cls.DELETE
            case _:
                return cls.SUBMIT


class ApiKey(Frozen):
    """A key, without its secret."""

    id: str
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    active: bool
