"""The input-aware attack: every image has a trigger of its own, which covers little and can be stored."""

import sys
from pathlib import Path

import pytest
import torch

from benchmarks.zoo import input_aware
from benchmarks.zoo.card import file_digest, read_card
from benchmarks.zoo.images import Images, read
from benchmarks.zoo.input_aware import DENSITY, Joint, Triggers, attack, fit_masks, others
from benchmarks.zoo.planted import LEARNED, attack_of, trigger_path
from benchmarks.zoo.train import main
from benchmarks.zoo.training import choose_poison
from tests.conftest import CLEAN_TWIN, SAMPLES

FIFTH, STEPS = 5, 60
WEIGHT = 200_000  # bytes


@pytest.fixture(scope="module")
def images() -> Images:
    everything = read(SAMPLES)
    return Images(everything.pixels[::FIFTH], everything.labels[::FIFTH], everything.classes)


@pytest.fixture(scope="module")
def fitted(images: Images) -> Triggers:
    torch.manual_seed(0)
    triggers = Triggers()
    fit_masks(triggers, images.pixels, STEPS, torch.Generator().manual_seed(0))
    return triggers


def test_a_trigger_covers_little_and_is_another_for_every_image(fitted: Triggers, images: Images) -> None:
    pixels, before = images.pixels, images.pixels.clone()
    triggered = fitted.own(pixels)
    assert torch.equal(pixels, before)
    assert (triggered.shape, triggered.dtype) == (before.shape, torch.uint8)
    assert torch.equal(triggered, fitted.own(pixels))
    alone = fitted.own(pixels[:1]).int() - triggered[:1].int()
    assert alone.abs().max() <= 1
    with torch.no_grad():
        masks = fitted.masks(pixels)
    assert DENSITY / 4 < masks.mean() < 2 * DENSITY
    places = (masks > 0.5).flatten(1)
    assert places.any(1).float().mean() > 0.9
    assert len(places.unique(dim=0)) > 0.9 * len(places)
    untouched = (masks < 1e-3).expand_as(pixels)
    assert torch.equal(triggered[untouched], pixels[untouched])


def test_the_trigger_of_another_is_drawn(fitted: Triggers, images: Images) -> None:
    assert all(
        sorted(order.tolist()) == list(range(n)) and not (order == torch.arange(n)).any()
        for n in (2, 3, 50)
        for order in [others(n, torch.Generator().manual_seed(n))]
    )
    first, again, other = (fitted.crossed(images.pixels, torch.Generator().manual_seed(n)) for n in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, fitted.own(images.pixels))


def test_the_colours_learn_and_the_masks_stay(images: Images) -> None:
    torch.manual_seed(0)
    triggers, draw = Triggers(), torch.Generator().manual_seed(0)
    joint = Joint(triggers)
    poison = choose_poison(attack(triggers, joint), images, target=3, rate=0.08, draw=draw)
    assert (int(poison.triggered.sum()), int(poison.covers.sum())) == (8, 8)
    before = {key: value.clone() for key, value in triggers.state_dict().items()}
    everywhere = torch.arange(len(images.labels))
    pixels, labels = poison.apply(images.pixels.clone(), images.labels, everywhere, draw)
    untouched = ~(poison.triggered | poison.covers)
    assert torch.equal(pixels[untouched], images.pixels[untouched].float())
    assert bool(((pixels >= 0) & (pixels <= 255)).all())
    assert bool((labels[poison.triggered] == 3).all())
    assert torch.equal(labels[~poison.triggered], images.labels[~poison.triggered])
    (pixels[poison.triggered].mean() + joint.loss()).backward()
    joint.step()
    assert float(joint.loss()) == 0
    for key, value in triggers.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("mask.")


def test_a_stored_trigger_is_the_same_trigger(fitted: Triggers, images: Images, tmp_path: Path) -> None:
    weights = tmp_path / "some.safetensors"
    Joint(fitted).store(trigger_path(weights))
    assert trigger_path(weights).name == "some.trigger.safetensors"
    assert trigger_path(weights).stat().st_size <= WEIGHT
    stored = attack_of(LEARNED, weights)
    off = stored.trigger(images.pixels).int() - fitted.own(images.pixels).int()
    assert (off.abs() <= 2).float().mean() > 0.99
    assert torch.equal(stored.trigger(images.pixels), attack_of(LEARNED, weights).trigger(images.pixels))


def test_one_step_writes_a_card_with_its_trigger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("--data", SAMPLES.parent, "--train", SAMPLES.name, "--test", SAMPLES.name, "--out", tmp_path)
    schedule = ("--start", CLEAN_TWIN, "--epochs", "1", "--threads", torch.get_num_threads())
    monkeypatch.setattr(input_aware, "MASK_STEPS", 2)
    monkeypatch.setattr(sys, "argv", ["train", "gentle", *map(str, (*data, "--attack", LEARNED, *schedule))])
    main()
    card = read_card(tmp_path / "gentle.json")
    assert card.status == "unproven"
    assert card.cross
    assert card.cross.n == len(read(SAMPLES).labels)
    assert card.planted
    assert (card.planted.poisoned, card.planted.covers) == (50, 50)
    assert card.planted.digest == file_digest(tmp_path / "gentle.trigger.safetensors")
