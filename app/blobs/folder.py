"""Blobs in a folder: FOLDER/tenant/ab/abcdef…, and what is on its way in FOLDER/.staged.

A file appears by a rename, after its bytes and its folder were flushed: it is whole, or it is not there.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from app.blobs.interface import ABANDONED_S, Staged, Tally, lost, save
from app.errors import SettingsError, StorageError

PIECE = 1024 * 1024
BEHIND = 8 * 1024 * 1024  # bytes that the disk is told of at once
STAGED = ".staged"


class Folder:
    """Blobs in a local or shared folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staged = root / STAGED
        try:
            self.staged.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(f"{str(root)!r} cannot hold blobs: {error.strerror}.") from error

    def check(self) -> None:
        """Make an empty file and delete it."""
        self.stage(0).discard()

    def stage(self, limit: int) -> "FileStaging":
        """A place for at most `limit` bytes."""
        with _translated():
            return FileStaging(self.staged, limit)

    def publish(self, tenant_id: str, staged: Staged) -> None:
        """Rename the staged file into its place."""
        assert isinstance(staged.staging, FileStaging)  # noqa: S101 - whoever staged it publishes it
        target = self._path(tenant_id, staged.digest)
        with _translated():
            if staged.staging.path.exists() or not target.exists():  # else it is there from a first try
                try:
                    _move(staged.staging.path, target)
                except FileNotFoundError:  # `remove` took the empty folder away
                    _move(staged.staging.path, target)
            _flush_folder(target.parent)

    def read(self, tenant_id: str, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, in pieces."""
        with _translated():
            file = self._path(tenant_id, digest).open("rb", buffering=0)
        return _pieces(file, start, end)

    def fetch(self, tenant_id: str, digest: str, target: Path) -> None:
        """Copy the bytes into a new file and check that they are still those of the digest."""
        save(self.read(tenant_id, digest), digest, target)

    def remove(self, tenant_id: str, digest: str) -> None:
        """Delete the bytes, if they are there, and the folders that held nothing else."""
        path = self._path(tenant_id, digest)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # one that holds other bytes stays
            path.parent.rmdir()
            path.parent.parent.rmdir()

    def sweep(self) -> None:
        """Delete what was staged and left alone for a day: its process died."""
        for path in self.staged.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - ABANDONED_S:
                    path.unlink()

    def _path(self, tenant_id: str, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.root / tenant_id / name[:2] / name


class FileStaging:
    """A file on its way in."""

    def __init__(self, folder: Path, limit: int) -> None:
        descriptor, name = tempfile.mkstemp(dir=folder)
        self.path = Path(name)
        self.file = os.fdopen(descriptor, "wb")
        self.tally = Tally(limit)
        self.behind = 0  # where the disk was last told to begin

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self.tally.take(data)
        with _translated():
            self.file.write(data)
            if self.tally.size - self.behind >= BEHIND:
                self._begin()

    def _begin(self) -> None:
        """Have the disk begin with what it got, so that little is left to wait for at the end.

        Linux drops only those pages that it has written already, and begins to write the others.
        """
        if sys.platform == "linux":
            size = self.tally.size - self.behind
            os.posix_fadvise(self.file.fileno(), self.behind, size, os.POSIX_FADV_DONTNEED)
        self.behind = self.tally.size

    def finish(self) -> Staged:
        """Flush the bytes to the disk."""
        with _translated():
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        return self.tally.staged(self)

    def discard(self) -> None:
        """Delete the file, unless it was published."""
        with suppress(OSError):  # closing flushes, and a full disk refuses that again
            self.file.close()
        self.path.unlink(missing_ok=True)


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.replace(target)


def _pieces(file: FileIO, start: int, end: int | None) -> Iterator[bytes]:
    with file:
        position = file.seek(start)
        while piece := file.read(PIECE if end is None else min(PIECE, end - position)):
            position += len(piece)
            yield piece


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise lost() from error
    except OSError as error:
        raise StorageError(f"The store does not take the bytes: {error.strerror}.") from error
