"""Images without labels: wherever they lie, named by their path."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from app.errors import SamplesError
from worker.samples.unlabelled import read_images

RGB = (3, 8, 8)


def picture(path: Path, value: int, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(path)


def test_pictures_of_a_folder_come_by_name_however_deep_they_lie(tmp_path: Path) -> None:
    for name, value in (("b.png", 2), ("a/x/y/1.png", 1), ("c.PNG", 3)):
        picture(tmp_path / name, value)
    (tmp_path / ".DS_Store").write_text("litter")
    found, warnings = read_images(tmp_path, RGB)
    assert found.names == ("a/x/y/1.png", "b.png", "c.PNG")
    assert found.images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert warnings == ()


def test_an_image_is_looked_at_whatever_it_is_called(tmp_path: Path) -> None:
    """A file that is passed over for its name is a way around the screening."""
    picture(tmp_path / "1.jpg", 1)
    picture(tmp_path / "2.png", 2)
    picture(tmp_path / "3.webp", 3)
    picture(tmp_path / "4.bmp", 4)
    for name, other in (
        ("1.jpg", "a.jfif"),
        ("1.jpg", "b.JPE"),
        ("2.png", "c"),
        ("3.webp", "d.0"),
        ("4.bmp", "e.txt"),
    ):
        (tmp_path / other).write_bytes((tmp_path / name).read_bytes())
    found, warnings = read_images(tmp_path, RGB)
    assert found.names == ("1.jpg", "2.png", "3.webp", "4.bmp", "a.jfif", "b.JPE", "c", "d.0", "e.txt")
    assert (found.images[4:, 0, 0, 0].int() - torch.tensor([1, 1, 2, 3, 4])).abs().max() <= 2  # JPEG rounds
    assert warnings == ()


def test_what_is_not_looked_at_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "one.png", 1)
    Image.new("RGB", (8, 8)).save(tmp_path / "two.gif")
    others = {
        "LICENSE": b"ours",
        "a.zip": b"PK\x05\x06" + bytes(18),
        "b": b"",
        "c.txt": b"GIF",
        "large": bytes(21 << 20),
    }
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
    found, (warning,) = read_images(tmp_path, RGB)
    assert found.names == ("one.png",)
    assert warning.code == "samples.skipped"
    assert "6 ('LICENSE', 'a.zip', 'b', 'c.txt', 'large', …)" in warning.detail
    assert warning.remedy


def test_what_is_not_looked_at_is_named_in_archives_too(tmp_path: Path) -> None:
    picture(tmp_path / "one.png", 1)
    np.savez(tmp_path / "arrays.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.zeros(2))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(tmp_path / "one.png", "in/one")
        archive.write(tmp_path / "arrays.npz", "in/more.npz")
    with zipfile.ZipFile(tmp_path / "arrays.npz", "a") as archive:
        archive.write(tmp_path / "one.png", "one.png")
    for path, names, left_out in (
        ("images.zip", ("in/one",), "1 ('in/more.npz')"),
        ("arrays.npz", ("0", "1"), "1 ('one.png')"),
    ):
        found, (warning,) = read_images(tmp_path / path, RGB)
        assert (found.names, warning.code) == (names, "samples.skipped")
        assert left_out in warning.detail


def test_an_image_that_cannot_be_decoded_is_refused_and_not_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "one.png", 1)
    whole = (tmp_path / "one.png").read_bytes()
    for name, data in (("two.jfif", b"no image"), ("two", whole[:-30])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SamplesError, match="two") as caught:
            read_images(tmp_path, RGB)
        assert caught.value.code == "samples.bad_image"
        (tmp_path / name).unlink()


def test_arrays_need_no_labels_and_other_sizes_are_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", images=np.zeros((4, 16, 16, 3), np.uint8))
    found, warnings = read_images(tmp_path / "s.npz", RGB)
    assert (len(found), found.images.shape[1:], found.names) == (4, RGB, ("0", "1", "2", "3"))
    assert [warning.code for warning in warnings] == ["samples.resized"]


@pytest.mark.parametrize(
    ("made", "code"),
    [("nothing", "samples.not_found"), ("folder", "samples.empty"), ("text", "samples.bad_zip")],
)
def test_what_holds_no_images_is_a_problem(tmp_path: Path, made: str, code: str) -> None:
    path = tmp_path / "suspects"
    if made == "folder":
        path.mkdir()
    elif made == "text":
        path.write_text("not an archive")
    with pytest.raises(SamplesError) as caught:
        read_images(path, RGB)
    assert caught.value.code == code
    assert caught.value.remedy
