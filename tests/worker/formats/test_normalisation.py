"""Pixels are normalised as the user says, or as the clean samples say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from app.errors import OptionsError
from worker.formats.identify import resolve
from worker.formats.normalisation import PRESETS, TRIED, apply, choose, guess, parse

ROOT = Path(__file__).parents[3]
ZOO = ROOT.parent / "shared" / "zoo"
SMALL_ZOO = ROOT / "benchmarks" / "zoo" / "weights"


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_presets_fit_colour_and_grey(name: str, channels: int) -> None:
    found = parse(f" {name} ", channels)
    assert (found.name, found.found, len(found.mean), len(found.std)) == (name, False, channels, channels)


def test_numbers_may_be_stated() -> None:
    found = parse("0.1,0.2,0.3/1,2,3", 3)
    assert (found.name, found.mean, found.std) == ("custom", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert parse("0.5/0.25", 3).std == (0.25, 0.25, 0.25)
    assert parse("0,0,0/0.00392156862745098", 3).mean == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cifar",
        "0.5",
        "0.5/",
        "a/b",
        "0.5/0.5/0.5",
        "0.5,0.5/1",
        "0.5/0",
        "0.5/-1",
        "0.5/inf",
        "nan/1",
        "123.7/58.4",
    ],
)
def test_what_makes_no_sense_is_refused_with_the_presets(text: str) -> None:
    with pytest.raises(OptionsError) as caught:
        parse(text, 3)
    assert caught.value.code == "options.normalize"
    assert all(name in caught.value.remedy for name in PRESETS)


def test_a_colour_preset_is_refused_for_two_channels() -> None:
    with pytest.raises(OptionsError, match="takes 2"):
        parse("cifar10", 2)
    assert parse("half", 2).mean == (0.5, 0.5)


def test_apply_centres_and_scales_without_touching_the_images() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(3, 1)[None, :, None, :]
    before = images.clone()
    pixels = apply(images, parse("0,0.2,1/1,0.5,2", 3))
    assert pixels.dtype == torch.float32
    assert torch.allclose(pixels[0, :, 0], torch.tensor([[0, 0.2, 1], [-0.4, 0, 1.6], [-0.5, -0.4, 0]]))
    assert torch.equal(images, before)


class Threshold(torch.nn.Module):
    """Says 1 where the mean input is above a level, and says it loudly."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(level))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        distance = x.mean((1, 2, 3)) - self.level
        return torch.stack([-distance, distance], 1)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_choose_takes_the_most_accurate_and_reports_all(channels: int) -> None:
    """Pixels of 200 and 250 are told apart at 0.97 only when they are left as they are."""
    images = (
        torch.tensor([200, 250], dtype=torch.uint8).repeat(20)[:, None, None, None].expand(-1, channels, 4, 4)
    )
    found = choose(Threshold(0.97), images, torch.tensor([0, 1]).repeat(20))
    assert (found.name, found.found, found.mean) == ("none", True, (0.0,) * channels)
    assert found.tried["none"] == 1.0
    assert found.tried["half"] == 0.5
    assert ("imagenet" in found.tried) == (channels != 2)


def test_choose_breaks_ties_by_loss() -> None:
    """Around 0 every centring preset is right; the smallest deviation is the most certain."""
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(20)[:, None, None, None].expand(-1, 3, 4, 4)
    found = choose(Threshold(0.0), images, torch.tensor([0, 1]).repeat(20))
    assert found.tried["cifar10"] == found.tried["cifar10_rnp"] == 1.0
    assert found.name == "cifar10_rnp"


@pytest.mark.skipif(not ZOO.is_dir(), reason="the zoo is not here")
@pytest.mark.parametrize("name", ["badnets-w32", "blend-w32", "clean-a-w32"])
def test_choose_finds_what_a_zoo_model_was_trained_with(name: str) -> None:
    module = resolve(load_file(ZOO / name / "model.safetensors"), "auto").module
    with np.load(ZOO / "clean-500.npz") as held:
        images = torch.from_numpy(held["images"]).permute(0, 3, 1, 2)
        labels = torch.from_numpy(held["labels"]).long()
    found = choose(module, images, labels)
    assert found.name == "cifar10"
    assert found.tried["none"] < found.tried["cifar10"]


class Within(torch.nn.Module):
    """A real model of `cifar10`, as if it had been trained with another preset."""

    def __init__(self, path: Path, preset: str) -> None:
        super().__init__()
        self.module = resolve(load_file(path), "auto").module
        self.theirs, self.own = parse(preset, 3), parse("cifar10", 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, std, own_mean, own_std = (
            torch.tensor(values)[:, None, None]
            for values in (self.theirs.mean, self.theirs.std, self.own.mean, self.own.std)
        )
        logits: torch.Tensor = self.module((x * std + mean - own_mean) / own_std)
        return logits


def pool(n: int = 128) -> torch.Tensor:
    with np.load(ROOT / "examples" / "clean-500.npz") as held:
        return torch.from_numpy(held["images"][:: len(held["images"]) // n]).permute(0, 3, 1, 2)


@pytest.mark.parametrize("trained_with", ["cifar10", "cifar10_rnp", "imagenet", "none", "half"])
@pytest.mark.parametrize(
    "path",
    [
        ROOT / "examples" / "backdoored-resnet18.safetensors",
        SMALL_ZOO / "clean-vgg16-a.safetensors",
    ],
    ids=lambda path: path.stem,
)
def test_what_batchnorm_remembers_tells_the_normalisation_without_labels(
    path: Path, trained_with: str
) -> None:
    found, guessed = guess(Within(path, trained_with), pool())
    assert (found.name, found.found, found.tried) == (trained_with, True, {})
    assert (guessed.by, set(guessed.tried)) == ("statistics", set(TRIED))
    nearest, second = sorted(guessed.tried.values())[:2]
    assert guessed.tried[found.name] == nearest < second / 1.2


@pytest.mark.parametrize("trained_with", ["cifar10", "none", "half"])
def test_certainty_tells_presets_that_differ_much_where_nothing_is_remembered(trained_with: str) -> None:
    path = SMALL_ZOO / "folded-badnets-vgg16.safetensors"
    found, guessed = guess(Within(path, trained_with), pool())
    assert (found.name, guessed.by, set(guessed.tried)) == (
        trained_with,
        "certainty",
        {"cifar10", "none", "half"},
    )


@pytest.mark.parametrize("trained_with", ["cifar10_rnp", "imagenet"])
def test_certainty_takes_cifar10_for_what_is_near_to_it(trained_with: str) -> None:
    path = SMALL_ZOO / "folded-badnets-vgg16.safetensors"
    assert guess(Within(path, trained_with), pool())[0].name == "cifar10"


@pytest.mark.parametrize(("size", "stands"), [(64, "cifar10"), (224, "imagenet")])
def test_large_images_are_guessed_to_be_those_of_imagenet(size: int, stands: str) -> None:
    images = (
        torch.tensor([0, 255], dtype=torch.uint8).repeat(4)[:, None, None, None].expand(-1, 3, size, size)
    )
    found, guessed = guess(Threshold(0.0), images)
    assert (found.name, set(guessed.tried)) == (stands, {stands, "none", "half"})


def test_a_guess_leaves_out_what_gives_no_number() -> None:
    class Overflow(Threshold):
        """White is 1 with `none` and with `half`, and more with `cifar10`."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / (x.amax((1, 2, 3)) <= 1).float()[:, None]

    white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    found, guessed = guess(Overflow(0.0), white)
    assert (found.name, set(guessed.tried)) == ("none", {"none", "half"})
