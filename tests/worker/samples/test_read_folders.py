"""Folders and zips in ImageFolder layout: which class an image gets, and which pixels."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from app.errors import OptionsError, SamplesError
from worker.samples.read import read_samples, read_triggered

RGB = (3, 4, 4)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
Encode = Callable[..., bytes]
Store = Callable[..., Path]


def codes(problems: tuple) -> list[str]:
    return [problem.code for problem in problems]


@pytest.fixture(params=["pack", "unfold"])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


@pytest.fixture
def three(encode: Encode) -> dict[str, bytes]:
    return {"cat/a.png": encode(RED), "dog/b.png": encode(GREEN), "cow/c.png": encode(BLUE)}


def test_names_map_in_sorted_order_when_every_class_has_a_folder(store: Store, three: dict) -> None:
    samples, warnings = read_samples(store(three), 3, RGB)
    assert samples.class_names == ("cat", "cow", "dog")
    assert samples.labels.tolist() == [0, 1, 2]
    assert samples.labels.dtype == torch.int64
    assert samples.images.shape == (3, 3, 4, 4)
    assert samples.images.dtype == torch.uint8
    assert samples.images[:, :, 0, 0].tolist() == [list(RED), list(BLUE), list(GREEN)]
    assert warnings == ()


@pytest.mark.parametrize("root", ["", "train/"])
@pytest.mark.parametrize("content", [["dog", "cat", "cow"], {"dog": 0, "cat": 1, "cow": 2}])
@pytest.mark.parametrize("inside", [True, False])
def test_classes_json_gives_the_order(
    store: Store, three: dict, root: str, content: object, inside: bool
) -> None:
    files = {root + name: data for name, data in three.items()}
    files[(root if inside else "") + "classes.json"] = json.dumps(content).encode()
    samples, _ = read_samples(store(files), 3, RGB)
    assert samples.class_names == ("dog", "cat", "cow")
    assert samples.labels.tolist() == [1, 2, 0]


def test_numbers_map_by_value_and_a_missing_class_is_a_warning(store: Store, encode: Encode) -> None:
    files = {f"{name}/x.png": encode(RED) for name in ("2", "10", "007")}
    samples, warnings = read_samples(store(files), 12, RGB)
    assert samples.labels.tolist() == [7, 10, 2]
    assert samples.class_names[7] == "007"
    assert samples.class_names[11] == "11"
    assert codes(warnings) == ["samples.missing_class"]
    assert "9 of 12" in warnings[0].detail


@pytest.mark.parametrize("content", [["cat", "dog", "cow"], {"cow": 2, "dog": 1, "cat": 0}])
def test_folders_by_number_take_their_names_from_classes_json(
    store: Store, encode: Encode, content: object
) -> None:
    files = {"2/x.png": encode(BLUE), "00/x.png": encode(RED), "classes.json": json.dumps(content).encode()}
    samples, warnings = read_samples(store(files), 3, RGB)
    assert samples.labels.tolist() == [0, 2]
    assert samples.class_names == ("cat", "dog", "cow")
    assert codes(warnings) == ["samples.missing_class"]
    assert "'dog'" in warnings[0].detail


@pytest.mark.parametrize("names", [["0", "1", "2"], ["2", "1", "0"]])
def test_names_that_are_numbers_count_as_classes_json_has_them(
    store: Store, encode: Encode, names: list[str]
) -> None:
    files = {"0/x.png": encode(RED), "2/x.png": encode(BLUE), "classes.json": json.dumps(names).encode()}
    samples, _ = read_samples(store(files), 3, RGB)
    assert samples.labels.tolist() == [names.index("0"), names.index("2")]
    assert samples.class_names == tuple(names)


def test_a_folder_that_classes_json_has_but_nobody_filled_is_a_warning(store: Store, three: dict) -> None:
    files = three | {"classes.json": b'["cat", "cow", "dog", "eel"]'}
    samples, warnings = read_samples(store(files), 4, RGB)
    assert samples.class_names[3] == "eel"
    assert codes(warnings) == ["samples.missing_class"]
    assert "'eel'" in warnings[0].detail


def test_litter_and_papers_beside_the_class_folders_are_left_alone(store: Store, three: dict) -> None:
    clean, _ = read_samples(store(three, name="clean"), 3, RGB)
    litter = (
        "__MACOSX/cat/._a.png",
        ".DS_Store",
        "cat/.DS_Store",
        ".git/x/y/z",
        "dog/Thumbs.db",
        "README.md",
    )
    littered, warnings = read_samples(store(three | dict.fromkeys(litter, b"?"), name="littered"), 3, RGB)
    assert torch.equal(littered.images, clean.images)
    assert torch.equal(littered.labels, clean.labels)
    assert warnings == ()


def test_a_folder_and_its_zip_give_the_same_samples(pack: Store, unfold: Store, three: dict) -> None:
    zipped, _ = read_samples(pack(dict(reversed(three.items()))), 3, RGB)
    folder, _ = read_samples(unfold(three), 3, RGB)
    assert torch.equal(zipped.images, folder.images)
    assert torch.equal(zipped.labels, folder.labels)


def test_digests_are_those_of_sha256sum(pack: Store, unfold: Store, three: dict) -> None:
    path = pack(three)
    samples, _ = read_samples(path, 3, RGB)
    assert samples.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert samples.name == "samples.zip"
    lines = "".join(f"{hashlib.sha256(three[name]).hexdigest()}  {name}\0" for name in sorted(three))
    samples, _ = read_samples(unfold(three), 3, RGB)
    assert samples.digest == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("L", 77, "PNG", (77, 77, 77)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("I;16", 0x80FF, "PNG", (128, 128, 128)),
        ("LA", (77, 0), "PNG", (77, 77, 77)),
        ("RGBA", (10, 20, 30, 0), "PNG", (10, 20, 30)),
        ("RGB", (10, 20, 30), "BMP", (10, 20, 30)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb_as_the_usual_loader_makes_it(
    pack: Store,
    encode: Encode,
    mode: str,
    colour: object,
    kind: str,
    expected: tuple,
) -> None:
    path = pack({"0/x.img": encode(colour, mode=mode, kind=kind)})
    samples, _ = read_samples(path, 1, RGB)
    got = samples.images[0, :, 0, 0].int()
    assert (got - torch.tensor(expected)).abs().max() <= 2  # JPEG rounds


def test_a_palette_with_transparency_keeps_its_colours(pack: Store) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=b"\x00\x00")
    samples, warnings = read_samples(pack({"0/x.png": buffer.getvalue()}), 1, RGB)
    assert samples.images[0, :, 0, 0].tolist() == [10, 20, 30]
    assert warnings == ()


def test_exif_orientation_is_not_applied(pack: Store) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    samples, _ = read_samples(pack({"0/x.png": buffer.getvalue()}), 1, RGB)
    assert samples.images[0, 0, 0].tolist() == [255] * 4


def test_a_photograph_with_a_second_picture_behind_it_is_read(pack: Store) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), RED).save(
        buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4), BLUE)]
    )
    samples, _ = read_samples(pack({"0/x.jpg": buffer.getvalue()}), 1, RGB)
    assert samples.images[0, 0, 0, 0] > 250


def test_a_grey_model_gets_grey_images_and_hears_of_lost_colours(pack: Store, encode: Encode) -> None:
    path = pack(
        {
            "0/a.png": encode(200, mode="L"),
            "0/b.png": encode((100, 100, 100)),
            "0/c.png": encode(0xFF00, "I;16"),
        }
    )
    samples, warnings = read_samples(path, 1, (1, 4, 4))
    assert samples.images[:, 0, 0, 0].tolist() == [200, 100, 255]
    assert codes(warnings) == ["samples.made_grey"]
    assert "1 of 3" in warnings[0].detail


def test_other_sizes_are_resized_with_one_warning(pack: Store, encode: Encode) -> None:
    sizes = [(4, 4), (8, 8), (8, 8), (6, 2), (5, 5), (7, 7)]
    files = {f"0/{place}.png": encode(RED, size=size) for place, size in enumerate(sizes)}
    samples, warnings = read_samples(pack(files), 1, RGB)
    assert (samples.images[:, 0] == 255).all()
    assert codes(warnings) == ["samples.resized"]
    assert "5 of 6 images were resized to 4×4" in warnings[0].detail
    assert "2 of 8×8, 1 of 6×2" in warnings[0].detail
    assert "1 other size" in warnings[0].detail


def test_resizing_averages_as_an_antialiased_one_does(pack: Store) -> None:
    board = np.indices((8, 8)).sum(0) % 2 * 255
    buffer = io.BytesIO()
    Image.fromarray(board.astype(np.uint8)).save(buffer, "PNG")
    samples, _ = read_samples(pack({"0/x.png": buffer.getvalue()}), 1, RGB)
    assert ((samples.images > 100) & (samples.images < 155)).all()


def test_links_in_a_folder_are_refused(unfold: Store, three: dict, tmp_path: Path) -> None:
    path = unfold(three)
    (path / "loop").symlink_to(tmp_path)
    with pytest.raises(SamplesError) as caught:
        read_samples(path, 3, RGB)
    assert caught.value.code == "samples.entry_type_forbidden"


def test_triggered_folders_take_the_names_of_the_clean_classes(store: Store, encode: Encode) -> None:
    path = store({"dog/a.png": encode(RED), "cat/b.png": encode(RED)})
    triggered = read_triggered(path, 3, RGB, target=2, class_names=("dog", "cat", "cow"))
    assert triggered.labels.tolist() == [1, 0]
    assert triggered.targets.tolist() == [2, 2]
    assert triggered.digest.startswith("sha256:")


def test_triggered_folders_by_number_need_no_names(store: Store, encode: Encode) -> None:
    triggered = read_triggered(
        store({"00/a.png": encode(RED)}), 3, RGB, target=1, class_names=("0", "1", "2")
    )
    assert triggered.labels.tolist() == [0]


def test_triggered_folders_by_number_stand_beside_clean_ones_by_name(store: Store, encode: Encode) -> None:
    path = store({"0/a.png": encode(RED), "2/a.png": encode(RED)})
    triggered = read_triggered(path, 3, RGB, target=1, class_names=("cat", "dog", "cow"))
    assert triggered.labels.tolist() == [0, 2]


def test_triggered_folders_of_the_target_alone_show_nothing(store: Store, encode: Encode) -> None:
    path = store({"1/a.png": encode(RED), "1/b.png": encode(GREEN)})
    with pytest.raises(SamplesError) as caught:
        read_triggered(path, 3, RGB, target=1)
    assert (caught.value.code, int(caught.value.exit_code)) == ("samples.no_other_class", 3)
    assert "true class" in caught.value.remedy


def test_a_triggered_folder_of_an_unknown_name_is_refused(store: Store, encode: Encode) -> None:
    path = store({f"{name}/a.png": encode(RED) for name in ("cat", "dog", "fox")})
    with pytest.raises(SamplesError) as caught:
        read_triggered(path, 3, RGB, target=1, class_names=("cat", "dog", "cow"))
    assert caught.value.code == "samples.class_mismatch"


@pytest.mark.parametrize("target", [None, -1, 3])
def test_triggered_folders_need_a_target_in_range(store: Store, three: dict, target: int | None) -> None:
    with pytest.raises(OptionsError) as caught:
        read_triggered(store(three), 3, RGB, target=target)
    assert caught.value.code == "options.triggered_target"
