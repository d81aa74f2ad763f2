"""Rows 58 to 69, 78 and 79: archives of samples that lie, and labels that do."""

import json
import stat
import struct
import unicodedata

from tests.hostile.interface import ACCEPTED, Kind, row
from tests.hostile.pixels import picture
from tests.hostile.zips import Part, deflated, zipped

BAD, UNSAFE, TYPE = "samples.bad_zip", "samples.entry_path_unsafe", "samples.entry_type_forbidden"
TWICE, OVERLAP, CLASSES = "samples.duplicate_entry", "samples.overlapping_entries", "samples.class_mismatch"
PNG = picture()
PAIR = [Part(b"cat/1.png", PNG), Part(b"dog/1.png", PNG)]
GOOD = zipped(PAIR)


def beside(*parts: Part) -> bytes:
    return zipped([*PAIR, *parts])


@row("58a", Kind.SAMPLES, BAD)
def no_archive() -> list[bytes]:
    """No zip archive: nothing, text, RAR, an archive behind a program."""
    return [b"", b"hello", b"Rar!\x1a\x07" + bytes(99), b"MZ" + bytes(98) + GOOD]


@row("58b", Kind.SAMPLES, "samples.empty")
def no_images() -> list[bytes]:
    """An empty archive, and one without images."""
    return [zipped([]), zipped([Part(b"README.md", b"hello")])]


@row("58c", Kind.SAMPLES, "samples.truncated")
def cut_short() -> list[bytes]:
    """An archive cut at every eighth of its length."""
    return [GOOD[: len(GOOD) * eighth // 8] for eighth in range(1, 8)]


@row("59", Kind.SAMPLES, "samples.bomb_ratio")
def flat_bomb() -> bytes:
    """200 MB of zeros in 200 kB."""
    return beside(*(deflated(f"cat/{n}.png".encode(), bytes(20_000_000)) for n in range(2, 12)))


@row("60a", Kind.SAMPLES, OVERLAP)
def one_body_for_all() -> bytes:
    """A thousand entries of the directory for one member."""
    bomb = deflated(b"cat/0.png", bytes(1_000_000))
    more = (
        Part(f"cat/{n}.png".encode(), bomb.data, 8, crc=bomb.crc, size=bomb.size, local=b"", offset=0)
        for n in range(1, 1000)
    )
    return zipped([bomb, *more])


@row("60b", Kind.SAMPLES, OVERLAP, BAD)
def members_inside_members() -> bytes:
    """A member whose data holds the header of the next one, as Fifield's bomb quotes it."""
    inner = Part(b"cat/b.png", bytes(100))
    outer = Part(b"cat/a.png", inner.header())
    return zipped([outer, Part(b"cat/b.png", bytes(100), local=b"", offset=30 + len(outer.name))])


@row("60c", Kind.SAMPLES, BAD, OVERLAP)
def hidden_members() -> list[bytes]:
    """A member that the directory does not name, in front, between and behind the others."""
    hidden = Part(b"cat/hidden.png", PNG).header()
    return [
        zipped(PAIR, prefix=hidden),
        zipped(
            [
                PAIR[0],
                Part(
                    b"dog/1.png",
                    PNG,
                    local=hidden + PAIR[1].header(),
                    offset=len(PAIR[0].header()) + len(hidden),
                ),
            ]
        ),
        zipped(PAIR, gap=hidden),
    ]


@row("61", Kind.SAMPLES, "samples.nested_archive")
def nested() -> list[bytes]:
    """An archive in the archive, three deep; gzip, 7z and RAR in it."""
    deep = GOOD
    for _ in range(3):
        deep = zipped([Part(b"cat/x.png", deep), *PAIR])
    magic = (b"\x1f\x8b\x08", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")
    return [deep, *(beside(Part(b"cat/x.png", start + bytes(99))) for start in magic)]


@row("62", Kind.SAMPLES, BAD)
def sizes_that_lie() -> list[bytes]:
    """Ten bytes by the directory, a hundred million when unpacked; a byte more, a byte less, no end mark."""
    zeros = deflated(b"cat/x.png", bytes(100_000_000))
    small = deflated(b"cat/x.png", PNG)
    return [
        beside(Part(zeros.name, zeros.data, 8, crc=zeros.crc, size=10)),
        *(beside(Part(small.name, small.data, 8, crc=small.crc, size=len(PNG) + more)) for more in (1, -1)),
        beside(Part(small.name, small.data[:-2], 8, crc=small.crc, size=len(PNG))),
        beside(Part(small.name, small.data + b"more", 8, crc=small.crc, size=len(PNG))),
        beside(Part(b"cat/x.png", PNG, header_size=1)),
        beside(Part(b"cat/x.png", PNG, crc=1)),
        beside(Part(b"cat/x.png", PNG, method=8)),
    ]


@row("63", Kind.SAMPLES, UNSAFE)
def unsafe_paths() -> list[bytes]:
    """Paths upwards, absolute, with backslashes, zero bytes, dots, escapes, reversed text, 4 000 letters."""
    names = (
        "../x.png",
        "/etc/x.png",
        "C:/x.png",
        "cat\\x.png",
        "cat/x\0.png",
        "cat/./x.png",
        "cat//x.png",
        "cat/../../x",
    )
    more = (
        "cat/\x1b[2J.png",
        "cat/\u202egnp.exe",
        "cat/" + "y" * 4000 + ".png",
        "cat/\u200bx.png",
        "~/../x.png",
        "cat/a\nb",
    )
    return [beside(Part(name.encode(), PNG, flags=0x800)) for name in names + more]


@row("63b", Kind.SAMPLES, BAD)
def names_that_differ() -> list[bytes]:
    """Another name in the header than in the directory, and a name that is not the UTF-8 it says it is."""
    return [
        beside(Part(b"cat/x.png", PNG, header_name=b"dog/x.png")),
        beside(Part(b"cat/\xff.png", PNG, flags=0x800)),
    ]


@row("63c", Kind.SAMPLES, "samples.layout")
def deep_folders() -> bytes:
    """An image three hundred folders deep."""
    return beside(Part(b"a/" * 300 + b"x.png", PNG))


@row("64", Kind.SAMPLES, TYPE)
def no_plain_files() -> list[bytes]:
    """A link, a pipe, a device, a socket, a folder that is a file, and a program that runs as another user."""
    kinds = (
        stat.S_IFLNK,
        stat.S_IFIFO,
        stat.S_IFCHR,
        stat.S_IFBLK,
        stat.S_IFSOCK,
        stat.S_IFDIR,
        stat.S_IFREG | stat.S_ISUID,
    )
    return [beside(Part(b"cat/x.png", b"/etc/passwd", external=(kind | 0o755) << 16)) for kind in kinds]


@row("65a", Kind.SAMPLES, "samples.encrypted")
def encrypted() -> bytes:
    """An encrypted member."""
    return beside(Part(b"cat/x.png", PNG, flags=1))


@row("65b", Kind.SAMPLES, "samples.method_unsupported")
def other_methods() -> list[bytes]:
    """Members compressed by LZMA, bzip2, Zstandard, and by a method that nobody knows."""
    return [beside(Part(b"cat/x.png", PNG, method=method)) for method in (12, 14, 93, 99, 1, 9)]


@row("65c", Kind.SAMPLES, BAD)
def several_disks() -> list[bytes]:
    """Several parts, a member of another part, strong encryption, a comment on a member, a version of the future."""
    return [
        zipped(PAIR, disk=1),
        beside(Part(b"cat/x.png", PNG, disk=1)),
        beside(Part(b"cat/x.png", PNG, flags=0x40)),
        beside(Part(b"cat/x.png", PNG, comment=b"hello")),
        beside(Part(b"cat/x.png", PNG, needed=163)),
        zipped(PAIR, count=1),
        zipped(PAIR, count=3),
    ]


@row("66", Kind.SAMPLES, TWICE)
def alike_names() -> list[bytes]:
    """One name twice; twice but for capitals; twice but for how an accent is written."""
    accent = "cat/é.png"
    two = [
        ("cat/1.png",),
        ("cat/1.PNG",),
        (accent, unicodedata.normalize("NFD", accent)),
        ("dog/ß.png", "dog/ss.png"),
    ]
    return [beside(*(Part(name.encode(), PNG, flags=0x800) for name in names)) for names in two]


@row("67", Kind.SAMPLES, "samples.too_many")
def many_entries() -> list[bytes]:
    """50 001 tiny members; 65 535 by the end record; a directory of a gigabyte; 20 001 images."""
    tiny = [Part(f"cat/{n}".encode()) for n in range(50_001)]
    directory = bytearray(GOOD)
    directory[-10:-6] = struct.pack("<I", 1 << 30)
    images = [Part(f"cat/{n}.png".encode()) for n in range(20_001)]
    return [zipped(tiny), zipped(PAIR, count=65_535), bytes(directory), zipped(images)]


@row("68", Kind.SAMPLES, BAD)
def something_around() -> list[bytes]:
    """Something in front or behind, a comment, a second end record in the comment."""
    second = GOOD[GOOD.rindex(b"PK\x05\x06") :]
    return [
        zipped(PAIR, prefix=b"PK\x03\x04junk"), b"PK\x03\x04" + GOOD, GOOD + b"junk", GOOD + GOOD,
        zipped(PAIR, comment=b"hello"), zipped(PAIR, comment=second), zipped(PAIR, before_end=b"junk"),
        zipped(PAIR, before_end=struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)),
    ]  # fmt: skip


@row("69", Kind.SAMPLES, ACCEPTED)
def litter() -> bytes:
    """What desktops leave in archives: __MACOSX, .DS_Store, Thumbs.db, folders."""
    names = (b"__MACOSX/cat/._1.png", b"cat/.DS_Store", b"dog/Thumbs.db", b"cat/", b"dog/")
    return beside(*(Part(name, b"" if name.endswith(b"/") else b"litter") for name in names))


@row("78a", Kind.SAMPLES, CLASSES, "samples.too_large")
def hostile_class_lists() -> list[bytes]:
    """A classes.json that is no JSON, 100 000 deep, a megabyte long, of doubles, of NaN, with a class out of range."""
    lists = (
        b"cat,dog",
        b"[" * 100_000,
        json.dumps("x" * (1 << 20)).encode(),
        b'["cat","cat"]',
        b'{"cat":NaN,"dog":1}',
    )
    more = (
        b'{"cat":0,"dog":2}',
        b'{"cat":-1,"dog":1}',
        b'{"cat":true,"dog":0}',
        b'["cat"]',
        b"\xef\xbb\xbf",
        b'{"cat":1e400}',
    )
    return [beside(Part(b"classes.json", data)) for data in lists + more]


@row("79", Kind.SAMPLES, CLASSES, "samples.label_out_of_range")
def too_few_classes() -> list[bytes]:
    """One class only, three for a model of two, numbers out of range, one number twice."""
    folders = ((b"cat",), (b"cat", b"dog", b"eel"), (b"1", b"2"), (b"1", b"01"), (b"9" * 200,))
    return [zipped([Part(folder + b"/1.png", PNG) for folder in names]) for names in folders]
