"""An archive written down: the inverse of the audit.

Gives the bytes around the contents, made of the numbers that the audit found, so that an archive without a stray byte
comes back as it was.
"""

import struct
from collections.abc import Iterable
from dataclasses import replace

from worker.zips.audit import (
    CENTRAL,
    CENTRAL_FORM,
    DESCRIPTOR,
    END,
    END_64,
    END_64_FORM,
    END_FORM,
    LOCAL,
    LOCAL_FORM,
    LOCATOR_64,
    LOCATOR_64_FORM,
    WIDE,
)
from worker.zips.interface import Archive, Form, Member


def header(member: Member) -> bytes:
    """What stands in front of the content."""
    form = member.form
    known = (0, 0, 0) if form.descriptor else (member.crc, member.packed, member.size)
    if form.wide:
        known = (known[0], WIDE, WIDE)
    lengths = (len(member.raw_name), len(form.local_extra))
    fixed = LOCAL_FORM.pack(LOCAL, form.needed, form.flags, member.method, form.stamp, *known, *lengths)
    return fixed + member.raw_name + form.local_extra


def descriptor(member: Member) -> bytes:
    """What stands behind the content."""
    sizes = {0: "", 16: "<4s3I", 24: "<4sI2Q"}[member.form.descriptor]
    return struct.pack(sizes, DESCRIPTOR, member.crc, member.packed, member.size) if sizes else b""


def directory(archive: Archive, members: Iterable[Member]) -> bytes:
    """The directory of `members`, which lie as those of `archive` do, and the end."""
    entries = b"".join(_entry(member, member.form) for member in members)
    count, at = len(archive.members), archive.directory
    wide = b""
    if archive.wide:
        fields = (END_64_FORM.size - 12, 0x031E, 45, 0, 0, count, count, len(entries), at)
        wide = END_64_FORM.pack(END_64, *fields)
        wide += LOCATOR_64_FORM.pack(LOCATOR_64, 0, at + len(entries), 1)
    end = END_FORM.pack(
        END, 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), min(len(entries), WIDE), min(at, WIDE), 0
    )
    return entries + wide + end


def with_checksum(member: Member, crc: int) -> Member:
    """The same member, of another content of the same length."""
    return replace(member, crc=crc)


def _entry(member: Member, form: Form) -> bytes:
    fixed = CENTRAL_FORM.pack(
        CENTRAL,
        form.made,
        form.needed,
        form.flags,
        member.method,
        form.stamp,
        member.crc,
        *_narrow(member, form),
        len(member.raw_name),
        len(form.central_extra),
        0,
        0,
        form.internal,
        form.external,
        WIDE if form.central_extra and member.offset >= WIDE else member.offset,
    )
    return fixed + member.raw_name + form.central_extra


def _narrow(member: Member, form: Form) -> tuple[int, int]:
    return (
        WIDE if form.central_extra and member.packed >= WIDE else member.packed,
        WIDE if form.central_extra and member.size >= WIDE else member.size,
    )
