"""Rows 41 to 46: safetensors headers that lie."""

import json
from collections.abc import Sequence

from tests.hostile.interface import ACCEPTED, Kind, row

BROKEN, BOUNDS, CUT = "model.malformed_container", "model.tensor_out_of_bounds", "model.truncated"
OTHER = "model.unsupported_format"


def raw(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape: Sequence[object], begin: object, end: object, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def one(shape: Sequence[object], begin: object = 0, end: object = 16, dtype: object = "F32") -> bytes:
    return raw({"a": entry(shape, begin, end, dtype)}, bytes(16))


GOOD = one([4])


@row("41a", Kind.MODEL, OTHER, BROKEN, CUT)
def lengths_that_lie() -> list[bytes]:
    """A header of no length, of 2^63, of 100 MB and one, of more than the file."""
    return [
        raw({"a": entry([4], 0, 16)}, bytes(16), length=n) for n in (0, 1 << 63, 100_000_001, 10_000, 1, 62)
    ]


@row("41b", Kind.MODEL, BROKEN, OTHER)
def no_object() -> list[bytes]:
    """A header that is no JSON, a list, half an object, spaces first, another alphabet, or 100 000 deep."""
    texts = (
        b"{]",
        b"[]",
        b'{"a":',
        b'  {"a":{}}',
        "{ü".encode("utf-16"),
        b'{"a":' * 100_000,
        b"{" + b"\xff" * 8,
        b"{}{}",
    )
    return [raw(text, bytes(16)) for text in texts]


@row("41c", Kind.MODEL, BROKEN, BOUNDS)
def other_spelling() -> list[bytes]:
    """JSON that means the same and that no library writes: tabs, escapes, exponents, a number of 5 000 digits."""
    good = json.dumps({"a": entry([4], 0, 16)}, separators=(",", ":"))
    changes = (
        ("{", "{\t"),
        ('"a"', '"\\u0061"'),
        ("[4]", "[4.0]"),
        ("[0,", "[-0,"),
        ("[4]", f"[{'9' * 5000}]"),
    )
    return [raw(good.replace(old, new, 1).encode(), bytes(16)) for old, new in changes]


@row("41d", Kind.MODEL, BROKEN)
def hostile_metadata() -> list[bytes]:
    """Metadata that is no string, a list, of 300 entries, or of 100 kB."""
    tensors = {"a": entry([4], 0, 16)}
    kinds = ({"a": 1}, [], {str(n): "" for n in range(300)}, {"a": "x" * 100_000}, {"a": None}, "x")
    return [raw({"__metadata__": kind, **tensors}, bytes(16)) for kind in kinds]


@row("42a", Kind.MODEL, BROKEN)
def one_name_twice() -> list[bytes]:
    """One tensor twice, one field of a tensor twice, the metadata twice."""
    tensor = json.dumps(entry([2], 0, 8), separators=(",", ":"))
    return [
        raw(f'{{"a":{tensor},"a":{tensor}}}'.encode(), bytes(8)),
        raw(f'{{"a":{tensor[:-1]},"dtype":"I32"}}}}'.encode(), bytes(8)),
        raw(f'{{"__metadata__":{{}},"__metadata__":{{}},"a":{tensor}}}'.encode(), bytes(8)),
    ]


@row("42b", Kind.MODEL, BROKEN, CUT)
def places_that_do_not_add_up() -> list[bytes]:
    """Tensors that overlap, leave a hole, or end before or behind the file."""
    places = (
        (0, 4, 12),
        (0, 12, 20),
        (4, 12, 20),
        (0, 8, 17),
        (0, 0, 8),
    )  # of both tensors, and the bytes there are
    return [raw({"a": entry([2], a, a + 8), "b": entry([2], b, b + 8)}, bytes(n)) for a, b, n in places]


@row("42c", Kind.MODEL, CUT)
def cut_short() -> list[bytes]:
    """A file cut inside its numbers, or inside its header."""
    return [GOOD[:-1], GOOD[:-16], GOOD[: len(GOOD) // 2]]


@row("43", Kind.MODEL, BOUNDS)
def impossible_shapes() -> list[bytes]:
    """[0, 2^60], [0, 2^63], 5 000 dimensions, products that overflow, shapes that are not their bytes."""
    shapes: list[list[object]] = [
        [0, 1 << 60],
        [0, 1 << 63],
        [1] * 5000,
        [1 << 32, 1 << 32],
        [5],
        [-4],
        [3],
        [1.5],
        [True],
    ]
    return [one(shape) for shape in shapes] + [one([4], 16, 0), one([4], -16, 0), one([4], 0, 1 << 63)]


@row("43b", Kind.MODEL, BROKEN)
def entries_of_nonsense() -> list[bytes]:
    """Entries with a field too many or too few, or of other types."""
    good = entry([4], 0, 16)
    bad: tuple[object, ...] = (
        {**good, "x": 1},
        {},
        [],
        None,
        {**good, "shape": 4},
        {**good, "data_offsets": [0]},
    )
    return [raw({"a": value}, bytes(16)) for value in bad]


@row("44", Kind.MODEL, "model.unsupported_dtype")
def unknown_dtypes() -> list[bytes]:
    """F4, Q99, C64, F8_E4M3, nothing, HTML."""
    return [one([4], dtype=dtype) for dtype in ("F4", "Q99", "C64", "F8_E4M3", "", "<b>")]


@row("45", Kind.MODEL, "model.name_invalid")
def hostile_names() -> list[bytes]:
    """Names with line breaks, HTML, escape codes, reversed text, a megabyte, nothing."""
    names = (
        "a\r\nSet-Cookie: x",
        "<img onerror=1>",
        "\x1b[2J",
        "\u202eexe",
        "a" * (1 << 20),
        "",
        "${jndi:x}",
        "a\0b",
    )
    return [raw({name: entry([4], 0, 16)}, bytes(16)) for name in names]


@row("46", Kind.MODEL, "model.too_many_tensors")
def many_tensors() -> bytes:
    """100 000 tensors in a header of 7 MB."""
    return raw({f"a{n}": entry([0], 0, 0) for n in range(100_000)})


@row("51", Kind.MODEL, ACCEPTED)
def a_virus_pattern() -> bytes:
    """The EICAR test string as numbers: bytes of a tensor are numbers."""
    eicar = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    return raw({"a": entry([len(eicar)], 0, len(eicar), "U8")}, eicar)


@row("51b", Kind.MODEL, ACCEPTED)
def bools_that_are_none() -> bytes:
    """Bools of the bytes 2 and 255, which no compiler expects: read as true."""
    return raw({"a": entry([4], 0, 4, "BOOL")}, b"\x00\x01\x02\xff")
