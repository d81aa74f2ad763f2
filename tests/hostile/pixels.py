"""Rows 70 to 80: pictures and arrays that lie."""

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from tests.hostile.interface import ACCEPTED, Kind, row
from tests.hostile.zips import Part, zipped

PIXELS = (3, 8, 8)  # channels, height and width of the model for which samples are read
BAD, MANY = "samples.bad_image", "samples.image_too_many_pixels"
INVALID, KIND = "samples.npy_invalid", "samples.wrong_dtype"


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (8, 8), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def with_picture(*pictures: bytes) -> list[bytes]:
    """Archives of a good picture of each class, and one of these."""
    good = picture()
    return [
        zipped([Part(b"cat/1.png", good), Part(b"cat/2.png", data), Part(b"dog/1.png", good)])
        for data in pictures
    ]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *more: bytes, data: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(more)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


@row("70a", Kind.SAMPLES, MANY, BAD)
def pixel_floods() -> list[bytes]:
    """PNG, BMP and JPEG headers of 144 million to four billion billion pixels, and of none."""
    bmp = bytearray(picture("BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    jpeg = bytearray(picture("JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", 65_000, 65_000)
    sizes = ((12_000, 12_000), (65_535, 65_535), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (0, 0), (4097, 4096))
    return with_picture(*(png(*size) for size in sizes), bytes(bmp), bytes(jpeg))


@row("71", Kind.SAMPLES, BAD)
def damaged_pictures() -> list[bytes]:
    """Pictures cut short, with garbage inside, with a wrong checksum, with too little data."""
    plain, jpeg, webp, bmp = (
        picture(size=(64, 64)),
        picture("JPEG", size=(64, 64)),
        picture("WEBP"),
        picture("BMP"),
    )
    garbage = png(64, 64, data=zlib.compress(b"\x07" * 99) + b"garbage")
    wrong = plain[:40] + bytes([plain[40] ^ 1]) + plain[41:]
    return with_picture(
        plain[:-40], plain[:33], jpeg[:-90], webp[:-20], bmp[:-20], garbage, wrong, b"", b"hello"
    )


@row("72", Kind.SAMPLES, BAD, ACCEPTED)
def bombs_in_metadata() -> list[bytes]:
    """Compressed text and colour profiles of 100 MB in the metadata: refused, or left packed."""
    bomb = zlib.compress(bytes(100_000_000), 9)
    row_of_pixels = zlib.compress(bytes(8 * 25))
    kinds = ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"))
    return with_picture(*(png(8, 8, chunk(kind, start + bomb), data=row_of_pixels) for kind, start in kinds))


@row("73", Kind.SAMPLES, BAD)
def other_formats() -> list[bytes]:
    """EPS, PSD, TIFF, GIF, ICO, PPM, TGA, PDF, SVG, FITS, JPEG 2000 and DDS under a PNG's name."""
    made = (
        picture("EPS"),
        picture("TIFF"),
        picture("GIF"),
        picture("ICO"),
        picture("PPM"),
        picture("TGA"),
        picture("PDF"),
    )
    magic = (
        b"8BPS\0\1" + bytes(99),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"SIMPLE  =  T" + b" " * 99,
    )
    more = (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), b"DDS " + bytes(124), b"\x89HDF\r\n\x1a\n" + bytes(99))
    return with_picture(*made, *magic, *more)


@row("74", Kind.SAMPLES, "samples.image_animated")
def moving_pictures() -> list[bytes]:
    """Animated PNG and WebP."""
    frames = {"save_all": True, "append_images": [Image.new("RGB", (8, 8), "red")]}
    return with_picture(picture("PNG", **frames), picture("WEBP", **frames))


@row("75", Kind.SAMPLES, ACCEPTED)
def odd_but_legitimate() -> list[bytes]:
    """CMYK, 16 bits, palette with alpha, one pixel, grey, a turned photograph, another size."""
    turned = Image.Exif()
    turned[0x0112] = 6
    return with_picture(
        picture("JPEG", "CMYK"), picture("PNG", "I;16"), picture("PNG", "P", transparency=0), picture(size=(1, 1)),
        picture("PNG", "L"), picture("PNG", "1"), picture("PNG", "LA"), picture("JPEG", exif=turned),
        picture(size=(640, 3)),
    )  # fmt: skip


@row("77", Kind.SAMPLES, ACCEPTED)
def pictures_with_a_tail() -> list[bytes]:
    """A JPEG with PHP, HTML or an archive behind it: the pixels are read, the bytes go nowhere."""
    jpeg = picture("JPEG")
    return with_picture(
        *(jpeg + tail for tail in (b"<?php system('id'); ?>", b"<script>", zipped([Part(b"x", b"y")])))
    )


def npz(images: bytes | None, labels: bytes | None) -> bytes:
    parts = {b"images.npy": images, b"labels.npy": labels}
    return zipped(Part(name, data) for name, data in parts.items() if data is not None)


def npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def header(text: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode("latin-1") + data


def plain(descr: str = "'|u1'", order: str = "False", shape: str = "(2, 8, 8, 3)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


IMAGES, LABELS = npy(np.zeros((2, 8, 8, 3), np.uint8)), npy([0, 1])


def with_labels(labels: Iterable[object]) -> list[bytes]:
    return [npz(IMAGES, npy(value)) for value in labels]


@row(
    "78b",
    Kind.SAMPLES,
    "samples.label_out_of_range",
    KIND,
    "samples.wrong_shape",
    "samples.missing_array",
    suffix=".npz",
)
def labels_that_lie() -> list[bytes]:
    """Labels of −1, of the number of classes, of 2^63, fractions, NaN, too many, two-dimensional, or none."""
    wrong: list[object] = [
        [0, -1],
        [0, 2],
        np.array([0, 2**63], np.uint64),
        [0.0, 1.0],
        [0.0, np.nan],
        [0, 1, 1],
    ]
    return [
        *with_labels([*wrong, [[0], [1]], np.array(["a", "b"])]),
        npz(IMAGES, None),
        npz(None, LABELS),
        npz(None, None),
    ]


@row("80a", Kind.SAMPLES, KIND, INVALID, suffix=".npz")
def objects_in_arrays() -> list[bytes]:
    """Arrays of Python objects, records, text and dates."""
    kinds = (
        "'|O'",
        "[('a', '|O')]",
        "'<U9'",
        "'<M8[s]'",
        "'|V8'",
        "('|u1', (3,))",
        "'|u3'",
        "'|b2'",
        "'\xc0'",
        "'" + "x" * 99 + "'",
    )
    pickle = b"\x80\x02cos\nsystem\n(X\x04\0\0\0truetR."
    return [npz(header(plain(kind), pickle), LABELS) for kind in kinds]


@row("80b", Kind.SAMPLES, INVALID, suffix=".npz")
def impossible_arrays() -> list[bytes]:
    """Shapes of 10^12 images, negative, of 40 dimensions, of fractions; arrays that are cut short or too long."""
    shapes = (
        "(1000000000000, 8, 8, 3)",
        "(-2, 8, 8, 3)",
        f"({'1, ' * 40})",
        "(2.0, 8)",
        "(9, 8, 8, 3)",
        "()",
        "2",
    )
    return [
        *(npz(header(plain(shape=shape), bytes(384)), LABELS) for shape in shapes),
        npz(IMAGES[:-1], LABELS), npz(IMAGES + b"x", LABELS), npz(IMAGES[:9], LABELS), npz(b"", LABELS),
    ]  # fmt: skip


@row("80c", Kind.SAMPLES, INVALID, suffix=".npz")
def headers_that_are_programs() -> list[bytes]:
    """Headers with a call, nested 3 000 deep, 12 kB long, of another version, of another order, with a field more."""
    texts = (
        plain("__import__('os').system('true')"), "(" * 3000 + ")" * 3000 + "\n", plain() + " " * 12_000 + "\n",
        plain(order="True"), "{'shape': (2, 8, 8, 3), 'descr': '|u1', 'fortran_order': False}\n",
        plain().replace("}", "'x': 1, }"), plain(order="1"), "\0" * 99, "",
    )  # fmt: skip
    versions = (
        header(plain(), bytes(384), b"\2\0"),
        header(plain(), bytes(384), b"\3\0"),
        b"\x93NUMPX" + IMAGES[6:],
    )
    return [npz(data, LABELS) for data in (*(header(text, bytes(384)) for text in texts), *versions)]


@row("80d", Kind.SAMPLES, KIND, "samples.wrong_shape", "samples.empty", suffix=".npz")
def arrays_of_another_kind() -> list[bytes]:
    """Images of floats, of bools, of bytes in another order, of 2, 5 or no channels, and none at all."""
    arrays = (np.zeros((2, 8, 8, 3), kind) for kind in ("<f4", ">f4", "?", "<i2", ">u2", "<c8"))
    shapes = (
        np.zeros(shape, np.uint8)
        for shape in ((2, 8, 8, 2), (2, 3, 8, 8), (2, 8), (0, 8, 8, 3), (2, 0, 8, 3))
    )
    return [npz(npy(array), LABELS) for array in (*arrays, *shapes)]
