"""The .npz form: what is accepted, what is refused, and that nothing is allocated on the word of a header."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from app.errors import OptionsError, SamplesError
from worker.samples.read import read_samples, read_triggered

RGB = (3, 4, 4)
IMAGES = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
LABELS = np.array([0, 1, 2, 0, 1])


def save(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(folder / "samples.npz", **arrays)
    return folder / "samples.npz"


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def header(shape: str, descr: str = "'|u1'", version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("dtype", ["u1", "i2", "<i8", ">i4", "u8"])
def test_images_become_nchw_and_labels_int64(tmp_path: Path, dtype: str) -> None:
    samples, warnings = read_samples(save(tmp_path, images=IMAGES, labels=LABELS.astype(dtype)), 3, RGB)
    assert torch.equal(samples.images, torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    assert samples.images.is_contiguous()
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.labels.dtype == torch.int64
    assert samples.class_names == ("0", "1", "2")
    assert samples.name == "samples.npz"
    assert warnings == ()


@pytest.mark.parametrize("channels", [(), (1,), (4,)])
def test_grey_and_alpha_become_rgb(tmp_path: Path, channels: tuple[int, ...]) -> None:
    images = np.full((5, 4, 4, *channels), 77, np.uint8)
    samples, _ = read_samples(save(tmp_path, images=images, labels=LABELS), 3, RGB)
    assert samples.images.shape == (5, *RGB)
    assert (samples.images == 77).all()


def test_grey_images_for_a_grey_model_of_another_size(tmp_path: Path) -> None:
    images = np.full((5, 8, 8), 77, np.uint8)
    samples, warnings = read_samples(save(tmp_path, images=images, labels=LABELS), 3, (1, 4, 4))
    assert (samples.images == 77).all()
    assert [warning.code for warning in warnings] == ["samples.resized"]


def test_clean_samples_with_targets_are_pointed_out(tmp_path: Path) -> None:
    _, warnings = read_samples(save(tmp_path, images=IMAGES, labels=LABELS, targets=LABELS), 3, RGB)
    assert [warning.code for warning in warnings] == ["samples.has_targets"]


def test_an_npz_is_known_by_its_content(tmp_path: Path) -> None:
    path = save(tmp_path, images=IMAGES, labels=LABELS).rename(tmp_path / "upload")
    assert len(read_samples(path, 3, RGB)[0]) == 5


def test_triggered_targets_come_from_the_file_or_from_the_option(tmp_path: Path) -> None:
    path = save(tmp_path, images=IMAGES, labels=LABELS, targets=np.full(5, 2))
    assert read_triggered(path, 3, RGB).targets.tolist() == [2] * 5
    assert read_triggered(path, 3, RGB, target=2).labels.tolist() == LABELS.tolist()
    with pytest.raises(OptionsError, match="not what 'targets'"):
        read_triggered(path, 3, RGB, target=1)
    path = save(tmp_path, images=IMAGES, labels=LABELS)
    assert read_triggered(path, 3, RGB, target=1).targets.tolist() == [1] * 5
    with pytest.raises(OptionsError):
        read_triggered(path, 3, RGB)


def test_triggered_images_of_their_targets_alone_show_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, images=IMAGES, labels=LABELS, targets=LABELS)
    with pytest.raises(SamplesError) as caught:
        read_triggered(path, 3, RGB)
    assert caught.value.code == "samples.no_other_class"
    path = save(tmp_path, images=IMAGES, labels=LABELS, targets=[1, 1, 2, 0, 1])
    assert len(read_triggered(path, 3, RGB)) == 5, "one of another class is enough"


@pytest.mark.parametrize(
    ("arrays", "code", "words"),
    [
        ({"images": IMAGES}, "missing_array", "no array 'labels'; it holds 'images'"),
        ({"labels": LABELS}, "missing_array", "no array 'images'"),
        ({"images": IMAGES / 255, "labels": LABELS}, "wrong_dtype", "(images * 255)"),
        ({"images": IMAGES > 9, "labels": LABELS}, "wrong_dtype", "astype(np.uint8) * 255"),
        ({"images": IMAGES.astype(int), "labels": LABELS}, "wrong_dtype", "astype(np.uint8)"),
        ({"images": IMAGES, "labels": LABELS.astype(float)}, "wrong_dtype", "labels.astype(np.int64)"),
        ({"images": IMAGES, "labels": LABELS.astype(str)}, "wrong_dtype", "not numbers"),
        ({"images": IMAGES.astype(object), "labels": LABELS}, "wrong_dtype", "not numbers"),
        ({"images": np.zeros((5, 3, 8, 8), "u1"), "labels": LABELS}, "wrong_shape", "transpose(0, 2, 3, 1)"),
        ({"images": IMAGES[0, 0], "labels": LABELS}, "wrong_shape", "(4, 3)"),
        (
            {"images": np.asfortranarray(IMAGES), "labels": LABELS},
            "npy_invalid",
            "np.ascontiguousarray(images)",
        ),
        ({"images": IMAGES, "labels": LABELS[:4]}, "wrong_shape", "(4,)"),
        ({"images": IMAGES, "labels": np.eye(5, dtype=int)}, "wrong_shape", "argmax(1)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "empty", "no images"),
        (
            {"images": IMAGES, "labels": LABELS + 1},
            "label_out_of_range",
            "labels[2] is 3; the model has 3 classes",
        ),
        ({"images": IMAGES, "labels": LABELS - 1}, "label_out_of_range", "labels[0] is -1"),
        (
            {"images": IMAGES, "labels": LABELS.astype("u8") + 2**63},
            "label_out_of_range",
            "9223372036854775808",
        ),
        (
            {"images": IMAGES, "labels": LABELS, "targets": LABELS + 9},
            "label_out_of_range",
            "targets[0] is 9",
        ),
        ({"images": np.zeros((20_001, 1, 1), "u1"), "labels": LABELS}, "too_many", "20000 images"),
        ({"images": np.zeros((1, 4097, 4096), "u1"), "labels": LABELS}, "image_too_many_pixels", "16777216"),
    ],
)
def test_wrong_arrays_are_named_with_a_remedy(tmp_path: Path, arrays: dict, code: str, words: str) -> None:
    with pytest.raises(SamplesError) as caught:
        read_samples(save(tmp_path, **arrays), 3, RGB)
    assert caught.value.code == f"samples.{code}"
    assert words in caught.value.detail + caught.value.remedy


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"\x93NUMPY",
        npy(IMAGES)[:-1],
        npy(IMAGES) + b"\0",
        header("(1000000000000,)"),
        header("(-1, 4, 4)"),
        header("(1, 'x')"),
        header("((" * 3000),
        header("(1,)", descr="[('a', '|u1')]"),
        header("(1,)", descr="'|b2'"),
        header("(1,)", version=b"\x02\x00"),
        header("__import__('os').getpid()"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 9,
    ],
)
def test_a_header_that_lies_or_is_no_header_is_refused_before_it_costs_memory(
    pack: Callable[..., Path], member: bytes
) -> None:
    path = pack({"images.npy": member, "labels.npy": npy(LABELS)}, name="lie.npz")
    tracemalloc.start()
    with pytest.raises(SamplesError) as caught:
        read_samples(path, 3, RGB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code in {"samples.npy_invalid", "samples.wrong_dtype"}
    assert peak < 8 << 20


def test_a_deflate_bomb_is_refused_by_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w") as stream,
    ):
        stream.write(header(f"({65 << 20},)"))
        for _ in range(65):
            stream.write(bytes(1 << 20))
    with pytest.raises(SamplesError) as caught:
        read_samples(path, 3, RGB)
    assert caught.value.code == "samples.bomb_ratio"


def test_a_member_shorter_than_its_declared_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.npz"
    whole = npy(IMAGES)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", whole[:-50])
        archive.writestr("labels.npy", npy(LABELS))
        archive.getinfo("images.npy").file_size = len(whole)  # what the directory will say
    with pytest.raises(SamplesError) as caught:
        read_samples(path, 3, RGB)
    assert caught.value.code == "samples.bad_zip"
