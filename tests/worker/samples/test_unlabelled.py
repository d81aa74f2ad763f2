"""Images without labels: wherever they lie, named by their path."""

from pathlib import Path

import numpy as np
import pytest
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
    (tmp_path / "readme.txt").write_text("ours")
    found, warnings = read_images(tmp_path, RGB)
    assert found.names == ("a/x/y/1.png", "b.png", "c.PNG")
    assert found.images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert warnings == ()


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
