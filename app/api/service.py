"""What every endpoint works with, and who is calling."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from app.api.looks import Looks
from app.api.rates import Rates
from app.attestation.signing import PrivateKey, read_private_key
from app.bell.ring import Bell
from app.blobs.choose import open_blobs
from app.blobs.interface import Blobs, Staged
from app.contract.key import Scope
from app.errors import AccessError, CredentialsError, ResourceError
from app.ledger import artifacts, keys, pepper, tenants
from app.ledger.database import Database
from app.settings import Settings, is_loopback

HOUR_S = 3600
BEARER = HTTPBearer(
    scheme_name="key",
    description="An API key, made with `sanitizer keys create`.",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Service:
    """The parts, opened once."""

    settings: Settings
    database: Database
    looks: Looks
    blobs: Blobs
    bell: Bell
    rates: Rates
    pepper: bytes
    signing_key: PrivateKey | None

    @classmethod
    def open(cls, settings: Settings) -> "Service":
        """Open every part; the ledger is not asked yet. Raises `SettingsError`, `SigningKeyError`."""
        database = Database(settings.database)
        return cls(
            settings,
            database,
            Looks(database),
            open_blobs(settings),
            Bell(settings),
            Rates(settings),
            b"" if settings.auth == "off" else pepper.read(settings),
            read_private_key(settings.signing_key) if settings.signing_key else None,
        )

    def store(self, tenant_id: str, staged: Staged) -> None:
        """Write staged bytes down and make them visible. Blocks. Raises `QuotaError`, `StorageError`."""
        with self.database.write() as tx:
            tenants.may_store(tx, tenant_id, staged.digest, staged.size)
            artifacts.record(tx, tenant_id, staged.digest, staged.size, self.settings.limits.keep_s)
            self.blobs.publish(tenant_id, staged)

    def authenticate(self, key: str) -> keys.Caller:
        """Whom the key stands for. Blocks. Raises `CredentialsError`."""
        with self.database.read() as tx:
            caller = keys.authenticate(tx, key, self.pepper)
        if caller.stale:
            with (
                suppress(ResourceError),
                self.database.write() as tx,
            ):  # a full disk must not refuse a good key
                keys.used(tx, caller.key_id)
        return caller

    def close(self) -> None:
        """Close every part."""
        self.bell.close()
        self.database.close()


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


OpenService = Annotated[Service, Depends(_service)]
Shown = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


async def _caller(request: Request, service: OpenService, shown: Shown) -> str:
    """The tenant who calls, and may do so. Raises `AccessError`, `CredentialsError`, `QuotaError`."""
    if service.settings.auth == "off":
        _refuse_strangers(request)
        return tenants.LOCAL
    if shown is None:
        raise CredentialsError("This call needs an API key.")
    scope = Scope.of(request.method)
    caller = await run_in_threadpool(service.authenticate, shown.credentials)
    if scope not in caller.scopes:
        raise AccessError(
            f"This call needs the scope {scope.value!r}, and the key has {', '.join(sorted(caller.scopes))}.",
            code="access.scope",
            remedy="Use a key that has the scope; whoever runs the service makes one with: sanitizer keys create NAME.",
        )
    taken = await service.rates.take(caller.tenant_id, scope)
    if taken is not None:
        request.state.headers = taken.headers
        taken.check()
    return caller.tenant_id


def _refuse_strangers(request: Request) -> None:
    """With auth off the port is open to every program of this machine, and a browser is one.

    A page from elsewhere must not reach it, neither by its own requests nor by a name that it made point here.
    """
    if not is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or ""):
        raise AccessError("This service answers to localhost only.", code="access.host")
    origin = request.headers.get("origin")
    if origin is not None and not is_loopback(urlsplit(origin).hostname or ""):
        raise AccessError("Pages of other sites may not call this service.", code="access.origin")


Tenant = Annotated[str, Depends(_caller)]
