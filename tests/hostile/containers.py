"""Rows 16 to 29: files that are no checkpoint, or whose container lies."""

import io
import random
import struct
import tarfile

from tests.hostile.checkpoints import GLOBAL, PROTOCOL, WEIGHTS, checkpoint, members, parts, saved
from tests.hostile.interface import ACCEPTED, Kind, row
from tests.hostile.zips import Part, deflated, zipped

OTHER, BROKEN = "model.unsupported_format", "model.malformed_container"
PAYLOAD = PROTOCOL + GLOBAL("os", "system") + b"X\x04\x00\x00\x00true\x85R."


def stored(*names: str, root: str = "m", content: bytes = b"x") -> bytes:
    return zipped([Part(f"{root}/{name}".encode(), content) for name in names])


@row("16a", Kind.MODEL, OTHER)
def random_bytes() -> list[bytes]:
    """Random bytes."""
    noise = random.Random(0)  # noqa: S311 - the same noise every time
    return [noise.randbytes(length) for length in (1, 7, 8, 9, 100, 4000)]


@row("16b", Kind.MODEL, OTHER)
def other_kinds() -> list[bytes]:
    """HTML, PDF, ELF and GIF under a model's name."""
    return [
        b"<html>Not Found</html>",
        b"%PDF-1.7\n",
        b"\x7fELF\x02\x01\x01" + bytes(99),
        b"GIF89a" + bytes(99),
    ]


@row("16c", Kind.MODEL, "model.empty")
def nothing() -> bytes:
    """An empty file."""
    return b""


@row("17", Kind.MODEL, OTHER)
def packed() -> list[bytes]:
    """7z, gzip, RAR, xz and tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))
    magic = (b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b\x08", b"Rar!\x1a\x07", b"\xfd7zXZ\x00")
    return [*(start + bytes(99) for start in magic), buffer.getvalue()]


@row("18a", Kind.MODEL, "model.legacy_container")
def legacy_tar() -> bytes:
    """The tar container of PyTorch before 0.2."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("sys_info"))
    return buffer.getvalue()


@row("18b", Kind.MODEL, "model.legacy_container")
def legacy_pickles() -> bytes:
    """The stacked pickles of PyTorch before 1.6."""
    return saved({"a": [1.0]}, legacy=True)


@row("19", Kind.MODEL, "model.torchscript")
def torchscript() -> list[bytes]:
    """TorchScript: constants.pkl, or code."""
    return [
        stored("data.pkl", "constants.pkl", "version"),
        stored("data.pkl", "code/__torch__.py", "version"),
    ]


@row("20a", Kind.MODEL, OTHER)
def export_with_an_opaque_pickle() -> bytes:
    """torch.export whose constants are a pickle that runs a command."""
    return stored(
        "archive_format", "version", "models/model.json", "data/constants/opaque_obj_0", content=PAYLOAD
    )


@row("20b", Kind.MODEL, OTHER)
def export_with_pickled_weights() -> bytes:
    """torch.export whose weights ask to be unpickled."""
    return stored(
        "archive_format", "data/weights/model_weights_config.json", content=b'{"a":{"use_pickle":true}}'
    )


@row("20c", Kind.MODEL, OTHER)
def export_with_sample_inputs() -> bytes:
    """torch.export whose sample inputs fall back to plain unpickling."""
    return stored("archive_format", "data/sample_inputs/model.pt", content=PAYLOAD)


@row("20d", Kind.MODEL, OTHER)
def export_with_a_library() -> bytes:
    """torch.export with a compiled library inside."""
    return stored("archive_format", "data/aotinductor/model/x.so", content=b"\x7fELF")


@row("21", Kind.MODEL, OTHER)
def torch_package() -> bytes:
    """torch.package with Python source."""
    return stored("data.pkl", ".data/extern_modules", "code.py", content=PAYLOAD)


@row("22", Kind.MODEL, OTHER)
def other_frameworks() -> list[bytes]:
    """Keras, HDF5, SavedModel, joblib, and a bare pickle."""
    return [
        stored("config.json", "model.weights.h5", root="."),
        b"\x89HDF\r\n\x1a\n" + bytes(99),
        stored("saved_model.pb", "variables/variables.index"),
        b"\x80\x04\x95" + PAYLOAD[2:],
        PAYLOAD,
    ]


@row("23", Kind.MODEL, BROKEN)
def two_pickles() -> list[bytes]:
    """Two members data.pkl, an evil and a good one, in both orders: readers disagree which one counts."""
    evil, good = Part(b"archive/data.pkl", PAYLOAD), parts(WEIGHTS)
    return [zipped([evil, *good]), zipped([*good, evil])]


@row("24a", Kind.MODEL, BROKEN, OTHER)
def bytes_in_front() -> list[bytes]:
    """A checkpoint with something in front, whether its offsets count it or not."""
    return [b"junk" + WEIGHTS, b"PK\x03\x04" + WEIGHTS, zipped(parts(WEIGHTS), prefix=b"PK\x03\x04junk")]


@row("24b", Kind.MODEL, BROKEN)
def bytes_behind() -> list[bytes]:
    """A checkpoint with something behind: junk, a comment, another archive."""
    return [WEIGHTS + b"junk", WEIGHTS[:-2] + b"\x04\x00junk", WEIGHTS + WEIGHTS]


@row("24c", Kind.MODEL, OTHER)
def picture_and_checkpoint() -> bytes:
    """A JPEG that is a checkpoint too."""
    return b"\xff\xd8\xff\xe0" + bytes(20) + WEIGHTS


@row("24d", Kind.MODEL, BROKEN)
def bytes_between() -> bytes:
    """Bytes between the last member and the directory."""
    return zipped(parts(WEIGHTS), gap=b"hidden")


@row("25", Kind.MODEL, "model.compressed_member")
def compressed_storage() -> bytes:
    """A storage of 200 MB in 200 kB of the archive."""
    return zipped([*parts(WEIGHTS)[:-1], deflated(b"archive/data/0", bytes(200_000_000))])


@row("26a", Kind.MODEL, BROKEN)
def encrypted() -> bytes:
    """A member that says it is encrypted."""
    return zipped([*parts(WEIGHTS)[:-1], Part(b"archive/data/0", bytes(16), flags=1)])


@row("26b", Kind.MODEL, BROKEN)
def sizes_that_lie() -> list[bytes]:
    """Sizes that differ between the directory, the header and the truth."""
    rest, name = parts(WEIGHTS)[:-1], b"archive/data/0"
    lies: list[dict[str, int]] = [
        {"size": 17},
        {"packed": 15, "size": 15},
        {"header_size": 99},
        {"size": 2**32 - 1},
    ]
    return [zipped([*rest, Part(name, bytes(16), **lie)]) for lie in lies]  # type: ignore[arg-type]


@row("26c", Kind.MODEL, BROKEN)
def wrong_checksums() -> list[bytes]:
    """Members that do not match their checksum."""
    return [
        zipped([*members(WEIGHTS, without=name), Part(f"archive/{name}".encode(), data, crc=1)])
        for name, data in (("data/0", bytes(16)), ("version", b"3\n"))
    ]


@row("26d", Kind.MODEL, BROKEN)
def zip64_that_lies() -> list[bytes]:
    """A zip64 end, a zip64 field, or a locator that says something else."""
    plain = parts(WEIGHTS)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)
    field = struct.pack("<2HQ", 1, 8, 16)
    return [
        zipped(plain, before_end=locator),
        WEIGHTS.replace(b"PK\x06\x06\x2c", b"PK\x06\x06\x2d"),
        zipped([*plain[:-1], Part(b"archive/data/0", bytes(16), extra=field)]),
        zipped([*plain[:-1], Part(b"archive/data/0", bytes(16), extra=b"\x01\x00\xff\xff")]),
    ]


@row("26e", Kind.MODEL, BROKEN)
def overlapping() -> bytes:
    """Two members that share their bytes."""
    plain = parts(WEIGHTS)
    return zipped([*plain, Part(b"archive/data/1", bytes(16), local=b"", offset=0)])


@row("26f", Kind.MODEL, BROKEN)
def hidden_padding() -> list[bytes]:
    """Bytes hidden in the padding, the comment, the flags or the attributes of a member."""
    plain, name = parts(WEIGHTS)[:-1], b"archive/data/0"
    hidden = (
        Part(name, bytes(16), extra=b"FB\x06\x00hidden"),
        Part(name, bytes(16), extra=b"ZZ\x06\x00hidden"),
        Part(name, bytes(16), comment=b"hidden"),
        Part(name, bytes(16), external=0x10),
        Part(name, bytes(16), flags=0x40),
    )
    return [zipped([*plain, part]) for part in hidden]


@row("27a", Kind.MODEL, BROKEN)
def strange_members() -> list[bytes]:
    """Two roots, no version, a path upwards, a program, a storage that nobody names."""
    plain = parts(WEIGHTS)
    more = (
        b"other/version",
        b"archive/../x",
        b"archive/run.py",
        b"archive/data/7",
        b"/archive/version",
        b"x",
    )
    return [
        *(zipped([*plain, Part(name, b"3\n")]) for name in more),
        zipped(members(WEIGHTS, without="version")),
        zipped(members(WEIGHTS, without="data/0")),
    ]


@row("27b", Kind.MODEL, "model.too_many_members")
def many_members() -> list[bytes]:
    """65 535 members by the end record, and 50 001 in truth."""
    tiny = [Part(f"archive/data/{number}".encode()) for number in range(50_001)]
    return [zipped(parts(WEIGHTS), count=65_535), zipped([*parts(WEIGHTS), *tiny])]


@row("27c", Kind.MODEL, BROKEN)
def small_members_that_lie() -> list[bytes]:
    """A version, a byte order or an alignment that torch never wrote."""
    return [
        zipped([*members(WEIGHTS, without=name), Part(f"archive/{name}".encode(), data)])
        for name, data in (("version", b"3\n" * 9), ("byteorder", b"big"), (".format_version", b"<script>"))
    ]


@row("28", Kind.MODEL, "model.truncated", "model.empty")
def cut_short() -> list[bytes]:
    """A checkpoint cut at every sixteenth of its length."""
    return [WEIGHTS[: len(WEIGHTS) * sixteenth // 16] for sixteenth in range(16)]


@row(
    "29",
    Kind.MODEL,
    ACCEPTED,
    BROKEN,
    OTHER,
    "model.truncated",
    "model.too_many_members",
    "model.compressed_member",
)
def one_wrong_bit() -> list[bytes]:
    """A checkpoint with one bit changed, 200 times: refused, or of the same content."""
    flips, flipped = random.Random(29), []  # noqa: S311 - the same flips every time
    for _ in range(200):
        data = bytearray(WEIGHTS)
        data[flips.randrange(len(data))] ^= 1 << flips.randrange(8)
        flipped.append(bytes(data))
    return flipped


FLIPPED = (
    *(ACCEPTED, BROKEN, "model.malformed_pickle", "model.unsafe_pickle", "model.tensor_out_of_bounds"),
    *("model.name_invalid", "model.not_a_state_dict", "model.pickle_limits", "model.unsupported_dtype"),
)


@row("29b", Kind.MODEL, *FLIPPED)
def one_wrong_bit_in_the_pickle() -> list[bytes]:
    """The same inside the pickle, with the checksum made to fit."""
    flips, flipped = random.Random(30), []  # noqa: S311 - the same flips every time
    pickle = next(part for part in parts(WEIGHTS) if part.name.endswith(b"data.pkl")).data
    for _ in range(200):
        data = bytearray(pickle)
        data[flips.randrange(len(data))] ^= 1 << flips.randrange(8)
        flipped.append(checkpoint(bytes(data)))
    return flipped
