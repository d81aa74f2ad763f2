"""A URL -> the store behind it. A new kind of store is a new scheme here."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.blobs.folder import Folder
from app.blobs.interface import Blobs
from app.blobs.s3 import S3
from app.settings import Settings


def open_blobs(settings: Settings) -> Blobs:
    """The store at `file:///FOLDER` or `s3://BUCKET/PREFIX`. Raises `SettingsError` where it cannot be used."""
    if settings.blobs.startswith("s3://"):
        return S3(settings.blobs, settings.s3)
    return Folder(Path(unquote(urlsplit(settings.blobs).path)))
