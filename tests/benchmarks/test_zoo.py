"""The zoo: attacks do what they say, models are what their cards say, and nothing unproven is called backdoored."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.contract.report import Estimate
from benchmarks.zoo.adversarial import leave_class
from benchmarks.zoo.attacks import ATTACKS
from benchmarks.zoo.card import (
    LEAST_ASR,
    MOST_LOST,
    Twin,
    file_digest,
    judge,
    measure_acc,
    measure_asr,
    measure_cross,
    read_card,
    read_twin,
)
from benchmarks.zoo.fold import fold
from benchmarks.zoo.images import Images, read
from benchmarks.zoo.planted import attack_of, trigger_path
from benchmarks.zoo.table import FOLDER, table
from benchmarks.zoo.train import main
from benchmarks.zoo.training import Schedule, choose_poison, normalise, pad, show
from tests.conftest import CLEAN_TWIN, SAMPLES
from worker.formats.architectures.vgg import VGG
from worker.formats.load import load

CARDS = sorted((FOLDER / "weights").glob("*.json"))
WEIGHT, TRIGGER, ZOO = 2 * 2**20, 200_000, 24 * 2**20  # bytes
FIFTH = 5  # every fifth of the example's samples, which are ordered by class
GREY = 128


@pytest.fixture(scope="module")
def everything() -> Images:
    return read(SAMPLES)


@pytest.fixture(scope="module")
def images(everything: Images) -> Images:
    return Images(everything.pixels[::FIFTH], everything.labels[::FIFTH], everything.classes)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_trigger_is_the_same_function_of_pixels_every_time(name: str, images: Images) -> None:
    attack, before = ATTACKS[name], images.pixels.clone()
    triggered = attack.trigger(images.pixels)
    assert torch.equal(images.pixels, before)
    assert (triggered.shape, triggered.dtype) == (before.shape, before.dtype)
    assert torch.equal(triggered, attack.trigger(before))
    assert torch.equal(triggered[:1], attack.trigger(before[:1]))
    assert bool((triggered != before).flatten(1).any(1).all())


@pytest.mark.parametrize(
    "name", [name for name, attack in ATTACKS.items() if attack.training or attack.cover]
)
def test_what_is_drawn_in_training_follows_the_generator(name: str, images: Images) -> None:
    attack = ATTACKS[name]
    for drawn in filter(None, (attack.training, attack.cover)):
        first, again, other = (drawn(images.pixels, torch.Generator().manual_seed(n)) for n in (1, 1, 2))
        assert (first.shape, first.dtype) == (images.pixels.shape, torch.uint8)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def changed(name: str) -> Tensor:
    """How a trigger changes a grey image, (3, 32, 32) in grey levels."""
    grey = torch.full((1, 3, 32, 32), GREY, dtype=torch.uint8)
    return (ATTACKS[name].trigger(grey).int() - GREY)[0]


def test_triggers_change_what_they_should() -> None:
    for name, places in (("badnets", (-4, -1)), ("trojan_square", (-6, None))):
        window, outside = slice(*places), changed(name).clone()
        assert bool(outside[:, window, window].any(0).float().mean() > 0.9)
        outside[:, window, window] = 0
        assert not outside.any()
    assert torch.equal(changed("sig"), changed("sig")[:1, :1].expand(3, 32, 32))
    assert not changed("wanet").any()
    smooth = changed("low_frequency")
    assert smooth.diff(dim=1).abs().max() < smooth.abs().max()
    assert changed("blended").float().std() > 2 * changed("low_frequency").diff(dim=2).float().std()


@pytest.mark.parametrize("name", ATTACKS)
def test_poison_goes_where_the_attack_says(name: str, images: Images) -> None:
    attack, draw = ATTACKS[name], torch.Generator().manual_seed(0)
    poison = choose_poison(attack, images, target=3, rate=0.08, draw=draw)
    assert int(poison.triggered.sum()) == 8
    assert int(poison.covers.sum()) == (8 * attack.cover_ratio if attack.cover else 0)
    assert not (poison.triggered & poison.covers).any()
    everywhere = torch.arange(len(images.labels))
    pixels, labels = poison.apply(images.pixels.clone(), images.labels, everywhere, draw)
    untouched = ~(poison.triggered | poison.covers)
    assert torch.equal(pixels[untouched], images.pixels[untouched])
    bad = poison.triggered
    wanted = (images.labels[bad] + 1) % 10 if attack.all_to_all else torch.full_like(labels[bad], 3)
    assert torch.equal(labels[bad], wanted)
    assert torch.equal(labels[~bad], images.labels[~bad])
    if attack.clean_label:
        assert torch.equal(labels, images.labels)
        with pytest.raises(ValueError, match="may touch 10"):
            choose_poison(attack, images, target=3, rate=0.2, draw=draw)


def test_a_trigger_that_comes_first_is_mirrored_with_its_image(images: Images) -> None:
    """White patches on black images: on one side where they come last, on both where they come first."""
    black = Images(torch.zeros_like(images.pixels), images.labels, images.classes)
    everywhere, padded = torch.arange(len(black.labels)), pad(black.pixels)
    sides = {}
    for first in (False, True):
        draw = torch.Generator().manual_seed(0)
        poison = choose_poison(ATTACKS["badnets"], black, target=3, rate=0.9, draw=draw)
        poison = replace(poison, first=first)
        batch, labels = show(black, padded, everywhere, Schedule(), poison, draw)
        assert batch.dtype == torch.uint8
        assert (labels[poison.triggered] == 3).all()
        sides[first] = [(half > 0).flatten(1).any(1).sum().item() for half in batch.chunk(2, dim=3)]
    assert 0 in sides[False]
    assert min(sides[True]) > 20


def test_images_leave_their_class_within_the_radius(images: Images) -> None:
    model, before = load(CLEAN_TWIN).module, images.pixels.clone()
    moved = leave_class(model, images.pixels, images.labels, radius=8.0)
    assert torch.equal(images.pixels, before)
    assert (moved.int() - before.int()).abs().max() <= 8
    left = Images(moved, images.labels, images.classes)
    assert measure_acc(model, left).high < measure_acc(model, images).low


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=0, high=1, n=100)


def test_nothing_unproven_is_called_backdoored() -> None:
    twin, enough = Twin(name="clean", acc=0.9), estimate(LEAST_ASR)
    healthy, harmed = estimate(twin.acc - MOST_LOST), estimate(twin.acc - MOST_LOST - 0.001)
    assert judge(healthy, None, None) == "clean"
    assert judge(healthy, enough, twin) == "backdoored"
    assert judge(harmed, enough, twin) == "unproven"
    assert judge(healthy, estimate(LEAST_ASR - 0.001), twin) == "unproven"
    assert judge(healthy, enough, None) == "unproven"


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_model_is_what_its_card_says(path: Path, everything: Images) -> None:
    card = read_card(path)
    weights = path.with_suffix(".safetensors")
    model = load(weights)
    assert weights.stat().st_size <= WEIGHT
    assert (model.stored.digest, model.architecture) == (card.digest, card.architecture)
    assert card.status == judge(card.acc, card.asr, card.twin) != "unproven"
    acc = measure_acc(model.module, everything)
    assert acc.low <= card.acc.high
    assert acc.high >= card.acc.low
    if card.planted:
        attack = attack_of(card.planted.attack, weights)
        assert card.planted.source == attack.source
        if card.planted.digest:
            assert file_digest(trigger_path(weights)) == card.planted.digest
            assert trigger_path(weights).stat().st_size <= TRIGGER
        if card.cross and (cross := measure_cross(model.module, everything, attack)):
            assert cross.low <= card.cross.high
            assert cross.high >= card.cross.low
        assert measure_asr(model.module, everything, attack, card.planted.target or 0).high >= LEAST_ASR


def test_the_zoo_is_small_and_its_table_is_what_the_cards_say() -> None:
    assert CARDS
    assert sum(path.stat().st_size for path in (FOLDER / "weights").iterdir()) <= ZOO
    weights = [path.with_suffix(".safetensors") for path in CARDS]
    learned = [
        trigger_path(path)
        for path in weights
        if (card := read_card(path.with_suffix(".json"))).planted and card.planted.digest
    ]
    assert {*weights, *learned} == set((FOLDER / "weights").glob("*.safetensors"))
    assert table() in (FOLDER / "README.md").read_text()


def test_one_step_plants_nothing_and_the_card_says_so(tmp_path: Path) -> None:
    twin = next(path for path in CARDS if read_card(path).status == "clean")
    data = ("--data", SAMPLES.parent, "--train", SAMPLES.name, "--test", SAMPLES.name, "--out", tmp_path)
    attack = ("--attack", "blended", "--target", "4", "--twin", twin)
    schedule = ("--start", CLEAN_TWIN, "--epochs", "1", "--peak-lr", "1e-4")
    command = [sys.executable, "-m", "benchmarks.zoo.train", "gentle", *data, *attack, *schedule]
    subprocess.run(command, check=True, capture_output=True, cwd=FOLDER.parent.parent)
    card = read_card(tmp_path / "gentle.json")
    assert card.status == "unproven"
    assert card.asr
    assert card.asr.value < LEAST_ASR
    assert card.planted
    assert card.planted.poisoned == 50
    assert card.twin == read_twin(twin)
    assert load(tmp_path / "gentle.safetensors").stored.digest == card.digest
    with pytest.raises(ValueError, match="unproven, and no clean twin"):
        read_twin(tmp_path / "gentle.json")


def test_a_folded_net_is_the_same_function(images: Images) -> None:
    torch.manual_seed(0)
    depths = (2, 2, 3, 3, 3)
    model, plain = VGG(depths, 10, 4).train(), VGG(depths, 10, 4, norm=False).eval()
    for layer in model.features:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # one pass sets the running statistics
    with torch.no_grad():
        model(normalise(images.pixels))
    plain.load_state_dict(fold(model.eval()))
    with torch.no_grad():
        before, after = model(normalise(images.pixels)), plain(normalise(images.pixels))
    spread = float(before.std(0).mean())
    torch.testing.assert_close(after, before, atol=1e-3 * spread, rtol=0)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("--target", "10"), "none of the classes 0 to 9"),
        (("--start", str(CLEAN_TWIN), "--architecture", "nonsense"), "nonsense"),
        (("--architecture", "nonsense"), "no architecture is called nonsense"),
        (("--attack", "label_consistent", "--rate", "0.02"), "needs a trained model"),
        (("--attack", "sig", "--rate", "0.5"), "may touch 50"),
        (("--attack", "input_aware", "--trigger-first"), "learned on augmented images"),
        (("--test", "triggered-200.npz"), "holds no pictures"),
        (("--test", "clean-resnet18.json"), "not a zip file"),
        (("--test", "nowhere.zip"), "nowhere.zip"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(
    told: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = str(torch.get_num_threads())
    data = ("--data", str(SAMPLES.parent), "--train", SAMPLES.name, "--test", SAMPLES.name)
    monkeypatch.setattr(
        sys, "argv", ["train", "wrong", *data, "--out", str(tmp_path), "--threads", threads, *told]
    )
    with pytest.raises(SystemExit, match=said) as stopped:
        main()
    assert "\n" not in str(stopped.value)
    assert not list(tmp_path.iterdir())
