"""A zip archive of samples: audited whole before any member is read, every member read within bounds.

Nothing is ever extracted by name: members go to memory. Knows zip; knows nothing of images, classes or tensors.
"""

import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from app.contract.limits import input_limits
from app.errors import SamplesError
from worker.samples.entries import Entry, check_name, is_litter, shown, too_big, too_many
from worker.zips.audit import audit
from worker.zips.content import Content, content
from worker.zips.interface import Flaw, Kind, Member

FIRST_BYTES = (b"PK\x03\x04", b"PK\x05\x06")  # a member, or the end of an archive without any
REPACK = "Pack the folder again with an ordinary zip program, and compare the checksum after copying."
NESTED = (b"PK\x03\x04", b"7z\xbc\xaf", b"Rar!", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # what archives begin with
ANSWERS = {
    Kind.TRUNCATED: ("samples.truncated", REPACK),
    Kind.MALFORMED: ("samples.bad_zip", REPACK),
    Kind.ENCRYPTED: ("samples.encrypted", "Pack the folder without a password."),
    Kind.METHOD: ("samples.method_unsupported", REPACK),
    Kind.DUPLICATE: ("samples.duplicate_entry", REPACK),
    Kind.OVERLAP: ("samples.overlapping_entries", REPACK),
}


@dataclass(frozen=True, slots=True)
class Opened:
    """An audited archive, its file open."""

    file: BinaryIO
    members: tuple[Member, ...]


@contextmanager
def open_archive(path: Path, accepted: str) -> Iterator[Opened]:
    """The archive, audited; a flaw that shows only while a member is read is answered here too.

    Raises `SamplesError`: not_found and bad_zip, with what is `accepted` as the remedy, too_large, truncated, bad_zip,
    too_many, entry_path_unsafe, entry_type_forbidden, encrypted, method_unsupported, duplicate_entry,
    overlapping_entries, bomb_ratio.
    """
    if not path.is_file():
        raise SamplesError(f"There is no {shown(str(path))}.", code="samples.not_found", remedy=accepted)
    if not _is_archive(path):
        raise SamplesError(
            f"{shown(path.name)} is neither a folder nor a zip archive.",
            code="samples.bad_zip",
            remedy=accepted,
        )
    limits, size = input_limits().samples, path.stat().st_size
    if size > limits.archive_bytes:
        raise _too_large(f"The archive is larger than {limits.archive_bytes >> 30} GiB.")
    with path.open("rb") as file:
        try:
            members = audit(file, size, limits.entries, limits.directory_bytes).members
            _check_members(members, size)
            yield Opened(file, members)
        except Flaw as flaw:
            _refuse(flaw, size)


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in FIRST_BYTES


def archive_entries(archive: Opened) -> tuple[Entry, ...]:
    """The files of an archive, sorted by name, litter and folders left out."""
    files = (member for member in archive.members if not member.is_folder and not is_litter(member.name))
    entries = (Entry(member.name, partial(_read_bounded, archive.file, member)) for member in files)
    return tuple(sorted(entries, key=lambda entry: entry.name))


def stream(archive: Opened, member: Member) -> Content:
    """A member as a stream, which ends at its size."""
    return Content(archive.file, member)


def _read_bounded(file: BinaryIO, member: Member) -> bytes:
    if member.size > input_limits().samples.entry_bytes:
        raise too_big(member.name)
    data = content(file, member)
    if data.startswith(NESTED):
        raise SamplesError(
            f"{shown(member.name)} is an archive inside the archive.",
            code="samples.nested_archive",
            remedy="Pack the images themselves, in one folder per class.",
        )
    return data


def _check_members(members: tuple[Member, ...], size: int) -> None:
    alike = set[str]()
    for member in members:
        check_name(member.name)
        # Two names that a file system or an eye takes for one.
        same = unicodedata.normalize("NFC", member.name).casefold()
        if same in alike:
            raise Flaw(Kind.DUPLICATE, "it holds two members of one name", member.name)
        alike.add(same)
        _check_type(member)
    unpacked, limits = sum(member.size for member in members), input_limits().samples
    if unpacked > limits.unpacked_bytes:
        raise _too_large(f"The archive unpacks to more than {limits.unpacked_bytes >> 30} GiB.")
    if unpacked > max(limits.ratio_free_bytes, limits.ratio * size):
        raise SamplesError(
            f"The archive unpacks to {unpacked // size} times its size; {limits.ratio} times is allowed.",
            code="samples.bomb_ratio",
            remedy="Give photographs, or pack without compression: zip -0.",
        )


def _check_type(member: Member) -> None:
    mode = member.form.external >> 16
    plain = stat.S_IFMT(mode) in {0, stat.S_IFDIR if member.is_folder else stat.S_IFREG}
    if not plain or mode & (stat.S_ISUID | stat.S_ISGID):
        raise SamplesError(
            f"{shown(member.name)} is a link, a device, or runs as another user.",
            code="samples.entry_type_forbidden",
            remedy="Pack the files themselves; zip does so unless it is given --symlinks.",
        )


def _refuse(flaw: Flaw, size: int) -> NoReturn:
    if flaw.kind is Kind.TOO_MANY:
        raise too_many(input_limits().samples.entries, "files") from flaw
    code, remedy = ANSWERS[flaw.kind]
    which = f" ({shown(flaw.member)})" if flaw.member else ""
    detail = f"The archive of {size} bytes cannot be read: {flaw.why}{which}."
    raise SamplesError(detail, code=code, remedy=remedy) from flaw


def _too_large(detail: str) -> SamplesError:
    return SamplesError(detail, code="samples.too_large", remedy="Give fewer or smaller images.")
