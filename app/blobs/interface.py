"""Storage by digest: what a store of bytes must do, whatever it is made of.

Bytes are first staged, where nobody sees them, while their size and SHA-256 are taken; then published under
(tenant, digest) at one stroke. Nothing here ever holds a file whole in memory. Where a store lies behind a network,
every call may also raise `UnavailableError`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.errors import RequestError, StorageError

ABANDONED_S = 86400  # what was staged and left alone for longer belongs to nobody


class Staging(Protocol):
    """Bytes on their way in. `write` and `finish` block: call them in a thread."""

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises `RequestError` (request.too_large), `StorageError`."""

    def finish(self) -> "Staged":
        """Make sure that the bytes outlive a power cut; nothing more can be written."""

    def discard(self) -> None:
        """Forget the bytes, unless they were published. Call it in any case; raises nothing."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Bytes that are complete, and not yet visible."""

    digest: str
    size: int
    staging: Staging


class Blobs(Protocol):
    """A store of bytes by digest."""

    def check(self) -> None:
        """Make sure that bytes can be written now. Raises `StorageError`, `UnavailableError`."""

    def stage(self, limit: int) -> Staging:
        """A place for at most `limit` bytes."""

    def publish(self, tenant_id: str, staged: Staged) -> None:
        """Make staged bytes visible under their digest; doing it again is fine. Raises `StorageError`."""

    def read(self, tenant_id: str, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, in pieces. Raises `StorageError` (storage.lost) where they are gone."""

    def fetch(self, tenant_id: str, digest: str, target: Path) -> None:
        """Put the bytes into a file, read-only. Raises `StorageError` (storage.lost, storage.corrupt)."""

    def remove(self, tenant_id: str, digest: str) -> None:
        """Delete the bytes, if they are there."""

    def sweep(self) -> None:
        """Delete what was staged by processes that died."""


class Tally:
    """Digest and size of bytes on their way in, of which at most `limit` are taken."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._sha, self._limit = hashlib.sha256(), limit

    def take(self, data: bytes) -> None:
        """Count the next bytes. Raises `RequestError` (request.too_large)."""
        self.size += len(data)
        if self.size > self._limit:
            raise too_large(self._limit)
        self._sha.update(data)

    def staged(self, staging: Staging) -> Staged:
        """All of them, complete."""
        return Staged(f"sha256:{self._sha.hexdigest()}", self.size, staging)


def too_large(limit: int) -> RequestError:
    """The refusal of more than `limit` bytes."""
    return RequestError(
        f"This is larger than the {limit:,} bytes that are allowed.",
        status=413,
        code="request.too_large",
        remedy="GET /v1/limits lists what is allowed; the operator can raise it.",
    )


def lost() -> StorageError:
    """The bytes are not where the ledger knows them to be."""
    return StorageError(
        "The stored bytes are gone.",
        code="storage.lost",
        remedy="Upload the file again; the operator should check the store.",
    )


def save(pieces: Iterable[bytes], digest: str, target: Path) -> None:
    """Write the pieces into a new, read-only file. Raises `StorageError` when they are not those of the digest."""
    sha = hashlib.sha256()
    try:
        with target.open("xb") as file:
            for piece in pieces:
                sha.update(piece)
                file.write(piece)
        target.chmod(0o400)
    except OSError as error:
        raise StorageError(f"The disk does not take the bytes: {error.strerror}.") from error
    if f"sha256:{sha.hexdigest()}" != digest:
        raise StorageError(
            f"The stored bytes are not those of {digest} any more.",
            code="storage.corrupt",
            remedy="Upload the file again; the operator should check the disk.",
        )
