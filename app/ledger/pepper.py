"""The secret that turns an API key into its hash. Whoever steals the ledger alone can test no key against it."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from app.errors import SettingsError
from app.settings import PEPPER_LENGTH, Settings


def read(settings: Settings) -> bytes:
    """The pepper of the settings, or of its file, which is made where it is missing. Raises `SettingsError`.

    Several machines on one ledger need one pepper: there it has to be a setting.
    """
    if settings.pepper:
        return settings.pepper.encode()
    file = settings.pepper_file
    try:
        if not file.exists():
            _make(file)
        pepper = file.read_bytes().strip()
    except OSError as error:
        raise SettingsError(
            f"{str(file)!r} cannot be used: {error.strerror}.", code="settings.pepper"
        ) from error
    if len(pepper) < PEPPER_LENGTH:
        raise SettingsError(
            f"{str(file)!r} is too short to be a pepper.",
            code="settings.pepper",
            remedy="Restore the file; or delete it, and make every API key anew.",
        )
    return pepper


def _make(file: Path) -> None:
    """It appears whole or not at all, and whoever comes second uses the first one's."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=file.parent)  # only its owner may read it
    written = Path(name)
    try:
        with os.fdopen(descriptor, "w") as fresh:
            fresh.write(secrets.token_urlsafe(PEPPER_LENGTH))
            fresh.flush()
            os.fsync(fresh.fileno())
        with suppress(FileExistsError):
            file.hardlink_to(written)
    finally:
        written.unlink()
