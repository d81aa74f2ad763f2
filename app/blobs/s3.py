"""Blobs in an S3-compatible bucket: PREFIX/tenant/digest, and what is on its way in PREFIX/.staged.

An upload streams into its staged object part by part; publishing copies it inside the store, so no byte passes through
this process twice. A part that was sent by a process that then died is no object yet and cannot be seen here: give the
bucket a lifecycle rule that ends incomplete uploads.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from app.blobs.interface import ABANDONED_S, Staged, Tally, lost, save
from app.errors import SettingsError, UnavailableError
from app.settings import S3Settings

if TYPE_CHECKING:  # the library has them in its stubs alone
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

PIECE = 1024 * 1024
PART = 8 * 1024 * 1024  # bytes of one part, and what an upload holds in memory, twice: one fills, one is sent
LARGEST = 5 * 1024**3  # bytes that a store copies in one request
STAGED = ".staged"
SWEEP_S = 3600.0  # between two lists of what is staged: a list is a request that costs money
PATIENCE: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=60),
    "timeout": timedelta(hours=1),
}
RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
log = logging.getLogger(__name__)


class S3:
    """Blobs in a bucket."""

    def __init__(self, url: str, settings: S3Settings) -> None:
        parts = urlsplit(url)
        given: Any = {name: value for name, value in settings.model_dump().items() if value}
        self.store = S3Store(
            parts.netloc,
            prefix=unquote(parts.path).strip("/") or None,
            config=given,
            client_options={**PATIENCE, "allow_http": settings.endpoint.startswith("http://")},
            retry_config=RETRIES,
        )
        self.next_sweep = 0.0
        self._refuse_unusable(parts.netloc)

    def check(self) -> None:
        """Write an empty object and delete it."""
        with _translated():
            self._probe()

    def stage(self, limit: int) -> "ObjectStaging":
        """A place for at most `limit` bytes."""
        return ObjectStaging(self.store, min(limit, LARGEST))

    def publish(self, tenant_id: str, staged: Staged) -> None:
        """Copy the staged object into its place."""
        assert isinstance(staged.staging, ObjectStaging)  # noqa: S101 - whoever staged it publishes it
        with _translated():
            self.store.copy(staged.staging.key, _key(tenant_id, staged.digest))

    def read(self, tenant_id: str, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, in pieces."""
        if end is not None and end <= start:
            return iter(())
        part: GetOptions = {}  # an empty object has no range, not even its whole
        if end is not None:
            part["range"] = (start, end)
        elif start:
            part["range"] = {"offset": start}
        with _translated():
            found = self.store.get(_key(tenant_id, digest), options=part)
        return _pieces(found.stream(PIECE))

    def fetch(self, tenant_id: str, digest: str, target: Path) -> None:
        """Copy the bytes into a new file and check that they are still those of the digest."""
        save(self.read(tenant_id, digest), digest, target)

    def remove(self, tenant_id: str, digest: str) -> None:
        """Delete the bytes, if they are there."""
        with _translated(missing_ok=True):
            self.store.delete(_key(tenant_id, digest))

    def sweep(self) -> None:
        """Delete what was staged and left alone for a day: its process died. Looks once an hour."""
        if time.monotonic() < self.next_sweep:
            return
        self.next_sweep = time.monotonic() + SWEEP_S
        before = datetime.now(UTC) - timedelta(seconds=ABANDONED_S)
        with _translated(missing_ok=True):
            for batch in self.store.list(STAGED):
                if old := [item["path"] for item in batch if item["last_modified"] < before]:
                    self.store.delete(old)

    def _probe(self) -> None:
        key = f"{STAGED}/{uuid4().hex}"
        self.store.put(key, b"")
        self.store.delete(key)

    def _refuse_unusable(self, bucket: str) -> None:
        try:
            self._probe()
        except (FileNotFoundError, PermissionError, PermissionDeniedError, UnauthenticatedError) as error:
            raise SettingsError(
                f"SANITIZER_BLOBS_URL: the store has no bucket {bucket!r}, or does not let us write to it.",
                remedy="Make the bucket, and check the SANITIZER_S3__… settings.",
            ) from error
        except (BaseError, OSError) as error:
            log.warning("the store does not answer yet: %s", _first_line(error))


class ObjectStaging:
    """An object on its way in."""

    def __init__(self, store: S3Store, limit: int) -> None:
        self.store = store
        self.key = f"{STAGED}/{uuid4().hex}"
        self.writer = obstore.open_writer(store, self.key, buffer_size=PART, max_concurrency=1)
        self.tally = Tally(limit)

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self.tally.take(data)
        with _translated():
            self.writer.write(data)

    def finish(self) -> Staged:
        """Send the last part; the store answers when all are safe."""
        with _translated():
            self.writer.close()
        return self.tally.staged(self)

    def discard(self) -> None:
        """Delete the staged object; what was published is another one."""
        try:
            if not self.writer.closed():
                self.writer.close()  # an object can be deleted, parts that never became one cannot
            self.store.delete(self.key)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            log.warning("%s is left to the sweep: %s", self.key, _first_line(error))


def _key(tenant_id: str, digest: str) -> str:
    return f"{tenant_id}/{digest.removeprefix('sha256:')}"


def _pieces(stream: Iterable[Any]) -> Iterator[bytes]:
    with _translated():
        for piece in stream:
            yield bytes(piece)


@contextmanager
def _translated(*, missing_ok: bool = False) -> Iterator[None]:
    """Errors of the store as ours; it answers in the classes of Python and in those of the library."""
    try:
        yield
    except FileNotFoundError as error:
        if not missing_ok:
            raise lost() from error
    except (BaseError, OSError) as error:
        log.warning("the store refused or did not answer: %s", _first_line(error))
        raise UnavailableError("The store of files does not answer at the moment.") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
