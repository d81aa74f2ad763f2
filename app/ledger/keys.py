"""API keys: made once, shown once, kept as a keyed hash.

    sanitizer_<id: 12>_<secret: 32>_<checksum: 6>

The prefix lets a scanner find a key that leaked, the id finds its row, the checksum tells a typo from an unknown key
without asking the ledger. The secret holds 190 bits, so a fast hash is enough.
"""

import hmac
import logging
import re
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.contract.key import ApiKey, Scope
from app.errors import CredentialsError, UnknownError
from app.ledger.database import after, now
from app.ledger.rows import when
from app.ledger.tables import keys

ALPHABET = string.digits + string.ascii_letters
FORM = re.compile(r"(sanitizer_([0-9A-Za-z]{12})_[0-9A-Za-z]{32})_([0-9A-Za-z]{6})")
log = logging.getLogger(__name__)
FRESH_MS = 60_000  # how exact the time of the last use is; a finer one would write on every request

KEYS = sa.select(keys, now().label("now"))


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a good key stands for. `stale`: its last use was written down a while ago."""

    key_id: str
    tenant_id: str
    scopes: frozenset[Scope]
    stale: bool


def create(
    tx: sa.Connection,
    tenant_id: str,
    name: str,
    scopes: Iterable[Scope],
    pepper: bytes,
    *,
    expires_s: float | None = None,
) -> tuple[str, ApiKey]:
    """A new key of the tenant, and what is kept of it. The text is nowhere else: show it now."""
    key_id = _random(12)
    head = f"sanitizer_{key_id}_{_random(32)}"
    text = f"{head}_{_checksum(head)}"
    tx.execute(
        sa.insert(keys).values(
            id=key_id,
            tenant_id=tenant_id,
            name=name,
            hash=_hash(text, pepper),
            scopes=[scope for scope in Scope if scope in set(scopes)],
            created_at=now(),
            expires_at=None if expires_s is None else after(expires_s),
        )
    )
    return text, _key(tx.execute(KEYS.where(keys.c.id == key_id)).one())


def authenticate(tx: sa.Connection, text: str, pepper: bytes) -> Caller:
    """Whom the key stands for. Raises `CredentialsError`; only who holds the secret hears that it expired."""
    form = FORM.fullmatch(text)
    if form is None or _checksum(form[1]) != form[3]:
        raise CredentialsError(
            "This is no API key of this service: it was cut short or mistyped.",
            code="access.key_malformed",
            remedy="Copy the key again, whole: sanitizer_ and three groups of letters and digits.",
        )
    row = tx.execute(KEYS.where(keys.c.id == form[2])).one_or_none()
    if row is None:
        raise _unknown()
    if not hmac.compare_digest(row.hash, _hash(text, pepper)):
        log.warning("key %s came with another secret, or was made with another pepper", row.id)
        raise _unknown()
    if row.revoked_at is not None:
        raise CredentialsError("This API key was revoked.", code="access.key_revoked")
    if not _active(row):
        raise CredentialsError("This API key has expired.", code="access.key_expired")
    stale = row.used_at is None or row.used_at < row.now - FRESH_MS
    return Caller(row.id, row.tenant_id, frozenset(map(Scope, row.scopes)), stale)


def used(tx: sa.Connection, key_id: str) -> None:
    """Write down that the key was used now."""
    tx.execute(sa.update(keys).where(keys.c.id == key_id).values(used_at=now()))


def everyone(tx: sa.Connection, tenant_id: str | None = None) -> list[ApiKey]:
    """All keys, or those of one tenant, the oldest first."""
    wanted = KEYS if tenant_id is None else KEYS.where(keys.c.tenant_id == tenant_id)
    return [_key(row) for row in tx.execute(wanted.order_by(keys.c.created_at, keys.c.id))]


def revoke(tx: sa.Connection, key_id: str) -> ApiKey:
    """End a key with the commit; again without effect. Raises `UnknownError`."""
    tx.execute(
        sa.update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now())
    )
    row = tx.execute(KEYS.where(keys.c.id == key_id)).one_or_none()
    if row is None:
        raise UnknownError(
            f"There is no key {key_id!r}.", code="key.unknown", remedy="sanitizer keys list shows the ids."
        )
    return _key(row)


def _unknown() -> CredentialsError:
    return CredentialsError("Nobody has this API key.", code="access.key_unknown")


def _active(row: sa.Row[Any]) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > row.now)


def _key(row: sa.Row[Any]) -> ApiKey:
    times = {name: when(getattr(row, name)) for name in ("created_at", "expires_at", "revoked_at", "used_at")}
    told = {"id": row.id, "tenant": row.tenant_id, "name": row.name, "scopes": tuple(row.scopes)}
    return ApiKey.model_validate({**told, **times, "active": _active(row)})


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    rest, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _hash(text: str, pepper: bytes) -> str:
    return hmac.new(pepper, text.encode(), "sha256").hexdigest()
