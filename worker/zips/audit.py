"""One linear walk through a zip archive, from its first byte to its last, before anything in it is read.

Accepted is an archive that can be understood in one way only: members back to back from byte 0, then a directory that
lists them in the same order and says the same of them, then the end record, then nothing. What other readers would find
by other ways is what was checked here.
"""

import struct
from typing import BinaryIO, NamedTuple

from worker.zips.interface import (
    DEFLATED,
    DESCRIBED_BEHIND,
    ENCRYPTED,
    STORED,
    UTF8,
    Archive,
    Flaw,
    Form,
    Kind,
    Member,
)

LOCAL, DESCRIPTOR, CENTRAL = b"PK\x03\x04", b"PK\x07\x08", b"PK\x01\x02"
END, END_64, LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
LOCAL_FORM = struct.Struct("<4s3H4I2H")
CENTRAL_FORM = struct.Struct("<4s4H4I5H2I")
END_FORM = struct.Struct("<4s4H2IH")
END_64_FORM = struct.Struct("<4sQ2H2I4Q")
LOCATOR_64_FORM = struct.Struct("<4sIQI")
WIDE, WIDE_FIELD = 0xFFFFFFFF, 1
ENDS_64 = {(0x031E, 45), (45, 45)}  # as torch and Python write it
NEWEST = 63  # version 6.3 of the format, the last there is
_SPEED = 0x6  # how hard was deflated
_LONGEST_COMMENT = 0xFFFF


def audit(file: BinaryIO, size: int, most: int, directory_bytes: int) -> Archive:
    """The members of the archive that fills the `size` bytes of `file`. Raises `Flaw`.

    At most `most` members and `directory_bytes` of directory; both are checked before the directory is read.
    """
    count, at, length, end, wide = _end(file, size)
    if count > most or length > directory_bytes:
        raise Flaw(Kind.TOO_MANY, f"it has more than {most} members, or too long a directory")
    if at + length != end:
        raise Flaw(Kind.MALFORMED, "its directory does not lie where its end says")
    directory = _at(file, at, length)
    entries = _entries(directory, count)
    members, here = list[Member](), 0
    for place, entry in enumerate(entries):
        following = entries[place + 1].offset if place + 1 < count else at
        member = _member(file, here, following, entry)
        members.append(member)
        here = member.start + member.packed + member.form.descriptor
    if here != at:
        raise Flaw(Kind.MALFORMED, "bytes lie between its last member and its directory")
    return Archive(tuple(members), at, wide)


class _Entry(NamedTuple):
    """One entry of the directory."""

    name: str
    raw_name: bytes
    made: int
    needed: int
    flags: int
    method: int
    stamp: int
    crc: int
    packed: int
    size: int
    internal: int
    external: int
    offset: int
    extra: bytes


def _end(file: BinaryIO, size: int) -> tuple[int, int, int, int, bool]:
    """Members, the directory's first byte, length and proper end, and whether zip64's end stands before the end."""
    file.seek(max(0, size - END_FORM.size - _LONGEST_COMMENT))
    tail = file.read()
    record = tail[-END_FORM.size :]
    if len(record) < END_FORM.size or not record.startswith(END):
        if END in tail and len(tail) - tail.rindex(END) > END_FORM.size:
            raise Flaw(Kind.MALFORMED, "it does not end with its directory: a comment or other bytes follow")
        raise Flaw(Kind.TRUNCATED, "it has no directory at its end")
    _, disk, start_disk, here, count, length, at, comment = END_FORM.unpack(record)
    if disk or start_disk or here != count or comment:
        raise Flaw(Kind.MALFORMED, "it is one of several parts, or its end contradicts itself")
    position = size - END_FORM.size
    wide = _end_64(file, position)
    if wide is not None:
        narrow = ((count, 0xFFFF), (length, WIDE), (at, WIDE))
        if any(short not in {full, mark} for (short, mark), full in zip(narrow, wide, strict=True)):
            raise Flaw(Kind.MALFORMED, "its two ends disagree")
        count, length, at = wide
        position -= END_64_FORM.size + LOCATOR_64_FORM.size
    return count, at, length, position, wide is not None


def _end_64(file: BinaryIO, position: int) -> tuple[int, int, int] | None:
    """Members, length and first byte of the directory, by zip64's end before `position`, if there is one."""
    before = position - LOCATOR_64_FORM.size
    if before < 0 or not (locator := _at(file, before, LOCATOR_64_FORM.size)).startswith(LOCATOR_64):
        return None
    _, disk, at, disks = LOCATOR_64_FORM.unpack(locator)
    if disk or disks != 1 or at != before - END_64_FORM.size:
        raise Flaw(Kind.MALFORMED, "its second end does not lie where its locator says")
    found = END_64_FORM.unpack(_at(file, at, END_64_FORM.size))
    signature, length, made, needed, disk, start_disk, here, count, directory, first = found
    plain = signature == END_64 and length == END_64_FORM.size - 12 and (made, needed) in ENDS_64
    if not plain or disk or start_disk or here != count:
        raise Flaw(Kind.MALFORMED, "its second end is none that an archive of one part has")
    return count, directory, first


def _entries(directory: bytes, count: int) -> list[_Entry]:
    found, position, seen = list[_Entry](), 0, set[bytes]()
    for _ in range(count):
        entry, position = _central(directory, position)
        if entry.raw_name in seen:
            raise Flaw(Kind.DUPLICATE, "it holds two members of one name", entry.name)
        seen.add(entry.raw_name)
        found.append(entry)
    if position != len(directory):
        raise Flaw(Kind.MALFORMED, "its directory is not as long as it says")
    return found


def _central(directory: bytes, position: int) -> tuple[_Entry, int]:
    """The entry at `position`, and where the next one begins."""
    if position + CENTRAL_FORM.size > len(directory):
        raise Flaw(Kind.MALFORMED, "its directory holds fewer entries than it says")
    found = CENTRAL_FORM.unpack_from(directory, position)
    signature, made, needed, flags, method, stamp, crc, packed, size = found[:9]
    name_length, extra_length, comment, disk, internal, external, offset = found[9:]
    if signature != CENTRAL or comment or disk:
        raise Flaw(
            Kind.MALFORMED, "an entry of its directory is none, has a comment, or lies in another part"
        )
    middle = position + CENTRAL_FORM.size + name_length
    end = middle + extra_length
    if end > len(directory):
        raise Flaw(Kind.MALFORMED, "its directory is cut short")
    raw, extra = directory[middle - name_length : middle], directory[middle:end]
    name = _decoded(raw, flags)
    size, packed, offset = _widened(extra, name, size, packed, offset)
    _check_form(flags, method, name)
    if needed > NEWEST or (method == STORED and packed != size):
        raise Flaw(
            Kind.MALFORMED, "a member asks for a reader of the future, or is stored and has two sizes", name
        )
    entry = _Entry(
        name, raw, made, needed, flags, method, stamp, crc, packed, size, internal, external, offset, extra
    )
    return entry, end


def _member(file: BinaryIO, here: int, following: int, entry: _Entry) -> Member:
    """The member whose header begins at `here`, as the header and the directory agree that it is."""
    if entry.offset != here:
        kind = Kind.OVERLAP if entry.offset < here else Kind.MALFORMED
        raise Flaw(kind, "a member does not begin where the one before it ends", entry.name)
    header = LOCAL_FORM.unpack(_at(file, here, LOCAL_FORM.size))
    signature, _, flags, method, stamp, crc, packed, size, name_length, extra_length = header
    behind = _at(file, here + LOCAL_FORM.size, name_length + extra_length)
    extra = behind[name_length:]
    same = (flags, method, stamp, behind[:name_length])
    if signature != LOCAL or same != (entry.flags, entry.method, entry.stamp, entry.raw_name):
        raise Flaw(Kind.MALFORMED, "the header of a member and the directory disagree", entry.name)
    start = here + LOCAL_FORM.size + name_length + extra_length
    if start + entry.packed > following:
        raise Flaw(Kind.OVERLAP, "a member reaches into the next one, or into the directory", entry.name)
    descriptor = _descriptor(file, start + entry.packed, following, entry)
    said = (crc, *_widened(extra, entry.name, size, packed, 0)[:2])
    told_behind = descriptor and not any(said)
    if not told_behind and said != (entry.crc, entry.size, entry.packed):
        raise Flaw(
            Kind.MALFORMED, "the header of a member and the directory disagree about its size", entry.name
        )
    form = Form(
        needed=entry.needed,
        flags=flags,
        stamp=stamp,
        local_extra=extra,
        made=entry.made,
        central_extra=entry.extra,
        internal=entry.internal,
        external=entry.external,
        wide=WIDE in (packed, size),
        descriptor=descriptor,
    )
    return Member(entry.name, entry.raw_name, method, entry.crc, entry.packed, entry.size, here, start, form)


def _check_form(flags: int, method: int, name: str) -> None:
    if flags & ENCRYPTED:
        raise Flaw(Kind.ENCRYPTED, "a member is encrypted", name)
    if method not in {STORED, DEFLATED}:
        raise Flaw(Kind.METHOD, f"a member is compressed by method {method}", name)
    if flags & ~(DESCRIBED_BEHIND | UTF8 | _SPEED):
        raise Flaw(Kind.MALFORMED, "a member is packed in a way that nobody uses", name)


def _decoded(raw: bytes, flags: int) -> str:
    """UTF-8, as the flag says or as it turns out; else what zip began with."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        if flags & UTF8:
            raise Flaw(Kind.MALFORMED, "the name of a member is not the UTF-8 that it says it is") from error
        return raw.decode("cp437")


def _widened(extra: bytes, name: str, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The numbers, each that does not fit its place taken from the zip64 field."""
    numbers = [size, packed, offset]
    wanted = [place for place, value in enumerate(numbers) if value == WIDE]
    fields = _fields(extra, name)
    if WIDE_FIELD in fields or wanted:
        field = fields.get(WIDE_FIELD, b"")
        if not wanted or len(field) != 8 * len(wanted):
            raise Flaw(Kind.MALFORMED, "a member tells its size twice, or not at all", name)
        for place, value in zip(wanted, struct.unpack(f"<{len(wanted)}Q", field), strict=True):
            numbers[place] = value
    return numbers[0], numbers[1], numbers[2]


def _fields(extra: bytes, name: str) -> dict[int, bytes]:
    """The extra fields of a header by their number."""
    found, position = dict[int, bytes](), 0
    while position < len(extra):
        number, length = struct.unpack("<2H", extra[position : position + 4].ljust(4, b"\0"))
        value = extra[position + 4 : position + 4 + length]
        if number in found or len(value) != length or len(extra) - position < 4:
            raise Flaw(
                Kind.MALFORMED, "the extra fields of a member are cut short, or one stands twice", name
            )
        found[number] = value
        position += 4 + length
    return found


def _descriptor(file: BinaryIO, at: int, following: int, entry: _Entry) -> int:
    """The length of the description between the content and what follows; 0 where there is none."""
    length = following - at
    if not entry.flags & DESCRIBED_BEHIND:
        return 0
    sizes = {16: "<4s3I", 24: "<4sI2Q"}.get(length)
    if sizes and entry.size < 1 << (32 if length == 16 else 64):
        expected = struct.pack(sizes, DESCRIPTOR, entry.crc, entry.packed, entry.size)
        if _at(file, at, length) == expected:
            return length
    raise Flaw(Kind.MALFORMED, "the description behind a member is missing, or disagrees", entry.name)


def _at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    found = file.read(length)
    if len(found) < length:
        raise Flaw(Kind.MALFORMED, "a part of it lies beyond its end")
    return found
