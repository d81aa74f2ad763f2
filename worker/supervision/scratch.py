"""The folder in which a worker's jobs have their folders; what dead workers left beside it is deleted."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import SettingsError


def scratch(root: Path) -> Path:
    """A new folder, locked for as long as this process lives. Raises `SettingsError`."""
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(root):
            for left in root.iterdir():
                if _lock(left):
                    shutil.rmtree(left, ignore_errors=True)
            mine = Path(tempfile.mkdtemp(prefix="worker-", dir=root))
            _lock(mine)
    except OSError as error:
        raise SettingsError(f"{str(root)!r} cannot hold the folders of jobs: {error.strerror}.") from error
    return mine


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Nobody else makes or deletes a folder meanwhile."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> bool:
    """Whether nobody else held it; the descriptor stays open, and with it the lock, until the process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True
