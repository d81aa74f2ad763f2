"""A zip archive, its directory checked before any member is read, every member read within bounds.

Nothing is ever extracted by name: members go to memory. Knows zip; knows nothing of images, classes or tensors.
"""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile, ZipInfo

from app.errors import SamplesError
from worker.samples.entries import Entry, check_name, is_litter, shown, too_big, too_many
from worker.samples.limits import (
    MAX_ARCHIVE_BYTES,
    MAX_DIRECTORY_BYTES,
    MAX_ENTRIES,
    MAX_ENTRY_BYTES,
    MAX_RATIO,
    MAX_UNPACKED_BYTES,
    RATIO_FREE_BYTES,
)

FIRST_BYTES = (b"PK\x03\x04", b"PK\x05\x06")  # a member, or the end of an archive without any
END_RECORD = b"PK\x05\x06"
END_RECORD_BYTES = 22
LONGEST_COMMENT = 0xFFFF
ZIP64_LOCATOR = b"PK\x06\x07"
ZIP64_LOCATOR_BYTES = 20  # it stands right before the end record
LOCAL_HEADER_BYTES = 30

REPACK = "Pack the folder again with an ordinary zip program, and compare the checksum after copying."


def is_archive(path: Path) -> bool:
    """Whether the file begins as a zip archive does."""
    with path.open("rb") as file:
        return file.read(4) in FIRST_BYTES


@contextmanager
def open_archive(path: Path) -> Iterator[ZipFile]:
    """The archive, its directory checked.

    Raises `SamplesError`: too_large, truncated, bad_zip, too_many, entry_path_unsafe, entry_type_forbidden,
    encrypted, method_unsupported, duplicate_entry, overlapping_entries, bomb_ratio.
    """
    size = path.stat().st_size
    if size > MAX_ARCHIVE_BYTES:
        raise _too_large(f"The archive is larger than {MAX_ARCHIVE_BYTES >> 30} GiB.")
    with path.open("rb") as file:
        _check_end(file, size)
        try:
            archive = ZipFile(file)
        except Exception as error:  # zipfile lets struct, unicode and value errors through
            raise _damaged("The directory of the archive cannot be read.") from error
        with archive:
            _check_directory(archive.infolist(), size)
            yield archive


def archive_entries(archive: ZipFile) -> tuple[Entry, ...]:
    """The files of a checked archive, sorted by name, litter and folders left out."""
    files = (info for info in archive.infolist() if not info.is_dir() and not is_litter(info.filename))
    entries = (Entry(info.filename, partial(_read_bounded, archive, info)) for info in files)
    return tuple(sorted(entries, key=lambda entry: entry.name))


@contextmanager
def open_member(archive: ZipFile, info: ZipInfo) -> Iterator[BinaryIO]:
    """A member as a stream, which ends at its declared size. Raises `samples.bad_zip` on damaged data."""
    try:
        stream = archive.open(info)
    except Exception as error:  # a local header of nonsense makes zipfile raise whatever its parts raise
        raise _damaged_member(info) from error
    with stream:
        try:
            yield stream  # type: ignore[misc]  # IO[bytes] has all that BinaryIO promises
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _damaged_member(info) from error


def _read_bounded(archive: ZipFile, info: ZipInfo) -> bytes:
    if info.file_size > MAX_ENTRY_BYTES:
        raise too_big(info.filename)
    with open_member(archive, info) as stream:
        data = stream.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise EOFError
    return data


def _check_end(file: BinaryIO, size: int) -> None:
    """The end record, before zipfile reads as much directory as it claims."""
    file.seek(max(0, size - ZIP64_LOCATOR_BYTES - END_RECORD_BYTES - LONGEST_COMMENT))
    tail = file.read()
    at = tail.rfind(END_RECORD)
    if at < 0 or len(tail) - at < END_RECORD_BYTES:
        raise SamplesError(
            f"The archive ends too early, after {size} bytes.", code="samples.truncated", remedy=REPACK
        )
    if tail[max(0, at - ZIP64_LOCATOR_BYTES) : at].startswith(ZIP64_LOCATOR):
        # its sizes would overrule those that are checked here
        raise _damaged("The archive ends as those beyond 4 GiB do, which it is not.")
    if int.from_bytes(tail[at + 12 : at + 16], "little") > MAX_DIRECTORY_BYTES:
        raise too_many(MAX_ENTRIES, "files")
    file.seek(0)


def _check_directory(members: list[ZipInfo], size: int) -> None:
    if len(members) > MAX_ENTRIES:
        raise too_many(MAX_ENTRIES, "files")
    names: set[str] = set()
    for info in members:
        check_name(info.orig_filename)
        if info.filename in names:
            raise SamplesError(
                f"The archive holds {shown(info.filename)} twice.",
                code="samples.duplicate_entry",
                remedy=REPACK,
            )
        names.add(info.filename)
        _check_member(info)
    _check_spans(members, size)
    unpacked = sum(info.file_size for info in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise _too_large(f"The archive unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB.")
    if unpacked > max(RATIO_FREE_BYTES, MAX_RATIO * size):
        raise SamplesError(
            f"The archive unpacks to {unpacked // size} times its size; {MAX_RATIO} times is allowed.",
            code="samples.bomb_ratio",
            remedy="Give photographs, or pack without compression: zip -0.",
        )


def _check_member(info: ZipInfo) -> None:
    name = shown(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG}:
        raise SamplesError(
            f"{name} is a link or a device.",
            code="samples.entry_type_forbidden",
            remedy="Pack the files themselves; zip does so unless it is given --symlinks.",
        )
    if info.flag_bits & 1:
        raise SamplesError(
            f"{name} is encrypted.", code="samples.encrypted", remedy="Pack the folder without a password."
        )
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise SamplesError(
            f"{name} is compressed by method {info.compress_type}; stored and deflated are read.",
            code="samples.method_unsupported",
            remedy=REPACK,
        )


def _check_spans(members: list[ZipInfo], size: int) -> None:
    """Members share no bytes: shared bytes are how a small archive unpacks to terabytes."""
    spans = sorted(
        (info.header_offset, info.header_offset + LOCAL_HEADER_BYTES + info.compress_size) for info in members
    )
    overlap = any(end > start for (_, end), (start, _) in pairwise(spans))
    if overlap or (spans and spans[-1][1] > size):
        raise SamplesError(
            "Members of the archive share bytes.", code="samples.overlapping_entries", remedy=REPACK
        )


def _damaged(detail: str) -> SamplesError:
    return SamplesError(detail, code="samples.bad_zip", remedy=REPACK)


def _damaged_member(info: ZipInfo) -> SamplesError:
    return _damaged(f"{shown(info.filename)} is damaged in the archive.")


def _too_large(detail: str) -> SamplesError:
    return SamplesError(detail, code="samples.too_large", remedy="Give fewer or smaller images.")
