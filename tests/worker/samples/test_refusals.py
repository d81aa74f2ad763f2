"""A table of sins: each folder or archive that cannot be used is refused with its own code and a remedy."""

import io
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from app.contract.limits import InputLimits, input_limits
from app.errors import ExitCode, SamplesError
from worker.samples import archive, entries, read
from worker.samples.entries import shown
from worker.samples.read import read_samples

RGB = (3, 4, 4)


def picture(kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((16, 16), 90).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind: str) -> bytes:
    return picture(kind, save_all=True, append_images=[Image.new("RGB", (16, 16), "red")])


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


X = picture()
PAIR = {"cat/x.png": X, "dog/x.png": X}

SINS: list[tuple[str, dict[str, bytes], str, str]] = [
    ("no file", {}, "empty", "no images"),
    ("only papers", {"README.md": b"hello"}, "empty", "no images"),
    ("no class folder", {"x.png": X}, "layout", "'x.png' lies in no class folder"),
    ("one image outside", {**PAIR, "y.JPG": X}, "layout", "'y.JPG'"),
    ("two roots", {"train/cat/x.png": X, "test/cat/x.png": X}, "layout", "deeper"),
    ("root in a root", {"a/b/cat/x.png": X, "a/b/dog/x.png": X}, "layout", "deeper"),
    ("a class too few", {"cat/x.png": X}, "class_mismatch", "1 class folders for a model of 2 classes"),
    ("a class too many", {**PAIR, "eel/x.png": X}, "class_mismatch", "3 class folders"),
    (
        "number too high",
        {"1/x.png": X, "2/x.png": X},
        "label_out_of_range",
        "'2' is out of range: the model has 2",
    ),
    ("same number twice", {"1/x.png": X, "01/x.png": X}, "class_mismatch", "number 1"),
    (
        "list too short",
        {**PAIR, "classes.json": b'["cat"]'},
        "class_mismatch",
        "names 1 classes; the model has 2",
    ),
    (
        "number beyond the list",
        {"1/x.png": X, "2/x.png": X, "classes.json": b'["cat", "dog"]'},
        "label_out_of_range",
        "'2' is out of range: the model has 2",
    ),
    (
        "number without a name",
        {"1/x.png": X, "classes.json": b'{"cat": 0}'},
        "class_mismatch",
        "'1' is the number",
    ),
    (
        "list that counts from 1",
        {"01/x.png": X, "classes.json": b'["1", "2"]'},
        "class_mismatch",
        "'01' is not",
    ),
    (
        "names and numbers",
        {"0/x.png": X, "dog/x.png": X, "classes.json": b'["cat", "dog"]'},
        "class_mismatch",
        "'0'",
    ),
    ("list of others", {**PAIR, "classes.json": b'["cat", "eel"]'}, "class_mismatch", "'dog' is not among"),
    ("name twice", {**PAIR, "classes.json": b'["cat", "cat"]'}, "class_mismatch", "different names"),
    ("no names", {**PAIR, "classes.json": b"[1, 2]"}, "class_mismatch", "different names"),
    ("class out of range", {**PAIR, "classes.json": b'{"cat": 0, "dog": 2}'}, "class_mismatch", "0 to 1"),
    ("true is no class", {**PAIR, "classes.json": b'{"cat": 0, "dog": true}'}, "class_mismatch", "0 to 1"),
    ("not JSON", {**PAIR, "classes.json": b"cat, dog"}, "class_mismatch", "not JSON"),
    ("deep JSON", {**PAIR, "classes.json": b"[" * 99_999}, "class_mismatch", "not JSON"),
    (
        "long JSON",
        {**PAIR, "classes.json": json.dumps("x" * (1 << 20)).encode()},
        "too_large",
        "classes.json",
    ),
    ("text for an image", {**PAIR, "cat/y.png": b"hello"}, "bad_image", "'cat/y.png' is not a PNG"),
    ("nothing for an image", {**PAIR, "cat/y.png": b""}, "bad_image", "'cat/y.png'"),
    ("cut PNG", {**PAIR, "cat/y.png": X[:-40]}, "bad_image", "'cat/y.png' is damaged"),
    ("cut JPEG", {**PAIR, "cat/y.jpg": picture("JPEG")[:-90]}, "bad_image", "'cat/y.jpg' is damaged"),
    ("broken PNG", {**PAIR, "cat/y.png": X[:60] + b"????" + X[64:]}, "bad_image", "'cat/y.png'"),
    ("other format", {**PAIR, "cat/y.png": picture("TIFF")}, "bad_image", "'cat/y.png' is not a PNG"),
    ("PostScript", {**PAIR, "cat/y.png": picture("EPS")}, "bad_image", "'cat/y.png' is not a PNG"),
    ("GIF", {**PAIR, "cat/y.gif": picture("GIF")}, "bad_image", "'cat/y.gif'"),
    ("animated PNG", {**PAIR, "cat/y.png": animation("PNG")}, "image_animated", "'cat/y.png'"),
    ("animated WebP", {**PAIR, "cat/y.webp": animation("WEBP")}, "image_animated", "'cat/y.webp'"),
    ("17 MP", {**PAIR, "cat/y.png": png_of_size(4097, 4096)}, "image_too_many_pixels", "16777216"),
    ("144 MP", {**PAIR, "cat/y.png": png_of_size(12_000, 12_000)}, "image_too_many_pixels", "16777216"),
    ("4 GP", {**PAIR, "cat/y.png": png_of_size(65_535, 65_535)}, "image_too_many_pixels", "16777216"),
    ("21 MiB", {**PAIR, "cat/y.png": bytes(21 << 20)}, "too_large", "'cat/y.png' is larger than 20 MiB"),
    ("escape codes", {**PAIR, "cat/\x1b[2J.png": X}, "entry_path_unsafe", "\\x1b[2J.png"),
    ("reversed text", {**PAIR, "cat/\u202egnp.exe": X}, "entry_path_unsafe", "\\u202egnp.exe"),
    ("backslash", {**PAIR, "cat\\y.png": X}, "entry_path_unsafe", "cat\\y.png"),
    ("drive", {**PAIR, "C:/y.png": X}, "entry_path_unsafe", "C:/y.png"),
]
ZIP_SINS: list[tuple[str, dict[str, bytes], str, str]] = [
    ("upwards", {**PAIR, "../y.png": X}, "entry_path_unsafe", "../y.png"),
    ("absolute", {**PAIR, "/etc/y.png": X}, "entry_path_unsafe", "/etc/y.png"),
    ("dot", {**PAIR, "cat/./y.png": X}, "entry_path_unsafe", "cat/./y.png"),
    ("double slash", {**PAIR, "cat//y.png": X}, "entry_path_unsafe", "cat//y.png"),
    ("long name", {**PAIR, f"cat/{'y' * 4000}.png": X}, "entry_path_unsafe", "yyy…yyy"),
]


def refused(path: Path, code: str, words: str = "") -> None:
    with pytest.raises(SamplesError) as caught:
        read_samples(path, 2, RGB)
    assert caught.value.code == f"samples.{code}"
    assert words in caught.value.detail
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 400
    assert caught.value.remedy
    assert caught.value.exit_code == ExitCode.UNSUPPORTED


@pytest.mark.parametrize(
    ("files", "code", "words"), [pytest.param(*sin[1:], id=sin[0]) for sin in SINS + ZIP_SINS]
)
def test_a_zip_is_refused(pack: Callable[..., Path], files: dict[str, bytes], code: str, words: str) -> None:
    refused(pack(files), code, words)


@pytest.mark.parametrize(("files", "code", "words"), [pytest.param(*sin[1:], id=sin[0]) for sin in SINS[1:]])
def test_a_folder_is_refused(
    unfold: Callable[..., Path], files: dict[str, bytes], code: str, words: str
) -> None:
    refused(unfold(files), code, words)


def test_what_is_not_there_or_is_no_archive(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "not_found", "nowhere")
    for content in (b"", b"hello", b"MZ" + bytes(99)):
        (tmp_path / "file.zip").write_bytes(content)
        refused(tmp_path / "file.zip", "bad_zip", "neither a folder nor a zip")


def test_a_zip_that_was_cut_is_truncated_wherever_it_was_cut(pack: Callable[..., Path]) -> None:
    path = pack(PAIR)
    whole = path.read_bytes()
    for length in (4, 30, len(whole) // 2, len(whole) - 22, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "truncated", f"of {length} bytes")


def test_damaged_bytes_inside_a_member_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("cat/x.bmp", picture("BMP"))
        target.writestr("dog/x.bmp", picture("BMP"))
    whole = bytearray(path.read_bytes())
    whole[300] ^= 1
    path.write_bytes(whole)
    refused(path, "bad_zip", "does not match its checksum ('cat/x.bmp')")


def test_a_directory_that_is_no_directory(pack: Callable[..., Path]) -> None:
    path = pack(PAIR)
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x09\x09"))
    refused(path, "bad_zip", "directory")


@pytest.mark.parametrize(("at", "value"), [(0, 0), (7, 8), (6, 1), (26, 0)])
def test_a_local_header_of_nonsense(pack: Callable[..., Path], at: int, value: int) -> None:
    """Its magic, a name said to be UTF-8 that is not, a password, a name of no length."""
    path = pack({"cat/first.png": X, **PAIR})
    whole = bytearray(path.read_bytes())
    start = whole.index(b"PK\x03\x04", 4)
    whole[start + at] = value
    whole[start + 30] = 0x95
    path.write_bytes(whole)
    refused(path, "bad_zip", "disagree")


def rewrite(path: Path, change: Callable[[zipfile.ZipInfo], None]) -> None:
    """Write the pair again, its second directory entry changed."""
    with zipfile.ZipFile(path, "w") as target:
        for name, data in PAIR.items():
            target.writestr(name, data)
        change(target.infolist()[1])


@pytest.mark.parametrize(
    ("attribute", "value", "code"),
    [
        ("external_attr", (stat.S_IFLNK | 0o777) << 16, "entry_type_forbidden"),
        ("external_attr", stat.S_IFIFO << 16, "entry_type_forbidden"),
        ("external_attr", stat.S_IFCHR << 16, "entry_type_forbidden"),
        ("external_attr", stat.S_IFDIR << 16, "entry_type_forbidden"),
        ("flag_bits", 1, "encrypted"),
        ("compress_type", zipfile.ZIP_LZMA, "method_unsupported"),
        ("compress_type", 99, "method_unsupported"),
        ("filename", "cat/x.png", "duplicate_entry"),
        ("filename", "dog/y.png", "bad_zip"),
        ("header_offset", 0, "overlapping_entries"),
        ("compress_size", 1 << 30, "bad_zip"),
        ("file_size", 1 << 30, "bad_zip"),
        ("file_size", 5 << 30, "bad_zip"),
        ("file_size", len(X) - 1, "bad_zip"),
        ("file_size", len(X) + 1, "bad_zip"),
        ("CRC", 0, "bad_zip"),
    ],
)
def test_a_directory_that_lies(tmp_path: Path, attribute: str, value: object, code: str) -> None:
    path = tmp_path / "lie.zip"
    rewrite(path, lambda info: setattr(info, attribute, value))
    refused(path, code)


def test_a_zip64_end_record_may_not_overrule_the_checked_sizes(pack: Callable[..., Path]) -> None:
    path = pack(PAIR)
    whole = path.read_bytes()
    path.write_bytes(whole[:-22] + b"PK\x06\x07" + bytes(16) + whole[-22:])
    refused(path, "bad_zip", "second end")


def test_a_directory_of_gigabytes_is_not_read(pack: Callable[..., Path]) -> None:
    path = pack(PAIR)
    whole = bytearray(path.read_bytes())
    whole[-10:-6] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(whole)
    refused(path, "too_many")


def test_counts_are_bounded(
    pack: Callable[..., Path], unfold: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bounded(**limits: int) -> None:
        value = InputLimits(samples=input_limits().samples.model_copy(update=limits))
        for module in (read, archive, entries):
            monkeypatch.setattr(module, "input_limits", lambda: value)

    bounded(images=1)
    refused(pack(PAIR), "too_many", "1 images")
    refused(unfold(PAIR), "too_many", "1 images")
    bounded(entries=1)
    refused(pack(PAIR), "too_many", "1 files")
    refused(unfold(PAIR), "too_many", "1 files")
    bounded(archive_bytes=99)
    refused(pack(PAIR), "too_large")


def test_images_beyond_memory_are_refused_before_they_are_decoded(pack: Callable[..., Path]) -> None:
    with pytest.raises(SamplesError) as caught:
        read_samples(pack(PAIR), 2, (3, 60_000, 60_000))
    assert caught.value.code == "samples.too_large"


def test_channels_that_no_image_has_are_refused(pack: Callable[..., Path]) -> None:
    with pytest.raises(SamplesError) as caught:
        read_samples(pack(PAIR), 2, (4, 4, 4))
    assert caught.value.code == "samples.channels_unsupported"


def test_a_folder_that_cannot_be_listed_is_not_left_out(
    unfold: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = unfold(PAIR)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", denied)
    refused(path, "unreadable", "Permission denied")


def test_foreign_names_are_shown_quoted_short_and_printable() -> None:
    assert shown("cat/x.png") == "'cat/x.png'"
    assert shown("\x1b[2J\n") == "'\\x1b[2J\\n'"
    assert len(shown("y" * 4000)) < 100
