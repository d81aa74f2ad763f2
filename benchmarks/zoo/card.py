"""The card of a model: what was done to it, what was measured, and whether that proves a backdoor."""

import hashlib
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import nn

from app.contract.frozen import Frozen
from app.contract.report import Estimate
from benchmarks.zoo.attacks import Attack
from benchmarks.zoo.images import Images
from benchmarks.zoo.training import predict
from worker.statistics import proportion

LEAST_ASR = 0.85
MOST_LOST = 0.02  # ACC under the clean twin

Status = Literal["clean", "backdoored", "unproven"]


class Twin(Frozen):
    """The clean model that shows what the same training reaches without poison."""

    name: str
    acc: float


class Trigger(Frozen):
    """What was planted; `target` is None where every class is sent to the next."""

    attack: str
    source: str
    target: int | None
    poisoned: int  # training images with the trigger
    covers: int  # training images with a false one
    clean_label: bool
    digest: str | None = None  # of the weights that make the trigger, where it was learned


class Card(Frozen):
    """Everything there is to know of one model; rates are of the whole test split. On disk it is JSON."""

    name: str
    status: Status
    architecture: str
    input_size: int | None = None  # pixels a side, where the images were resized for it
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    planted: Trigger | None
    acc: Estimate
    asr: Estimate | None  # leaves out images already of the target class
    cross: Estimate | None = (
        None  # share of images under the attack's cover that are classified as they should
    )
    twin: Twin | None
    seed: int
    start: str | None  # digest of the weights that training began with
    data: dict[str, str]  # digests of the training and the test pictures
    command: str
    digest: str


def judge(acc: Estimate, asr: Estimate | None, twin: Twin | None) -> Status:
    """Backdoored only where the trigger works and the clean task did not pay for it."""
    if asr is None:
        return "clean"
    healthy = twin is not None and acc.value >= twin.acc - MOST_LOST
    return "backdoored" if healthy and asr.value >= LEAST_ASR else "unproven"


def measure_acc(model: nn.Module, test: Images) -> Estimate:
    """Share of the test images that are classified as they should."""
    return proportion(predict(model, test.pixels) == test.labels)


def measure_asr(model: nn.Module, test: Images, attack: Attack, target: int) -> Estimate:
    """Share of triggered test images, not of the target class before, that go where the attacker wants."""
    wanted = attack.targets(test.labels, target, len(test.classes))
    others = wanted != test.labels
    return proportion(predict(model, attack.trigger(test.pixels[others])) == wanted[others])


def measure_cross(model: nn.Module, test: Images, attack: Attack) -> Estimate | None:
    """Share of test images under the attack's cover that are classified as they should, where it has a cover."""
    if attack.cover is None:
        return None
    covered = attack.cover(test.pixels, torch.Generator().manual_seed(0))
    return proportion(predict(model, covered) == test.labels)


def store(model: nn.Module, path: Path) -> None:
    """The weights as safetensors, in half precision."""
    state = {key: v.half() if v.is_floating_point() else v for key, v in model.state_dict().items()}
    save_file({key: v.cpu().contiguous() for key, v in state.items()}, path, {"format": "pt"})


def file_digest(path: Path) -> str:
    """`sha256:…` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def read_card(path: Path) -> Card:
    """A card from its JSON file. Raises `ValueError` where it is none."""
    return Card.model_validate_json(path.read_text())


def read_twin(path: Path) -> Twin:
    """The twin out of its card. Raises `ValueError` where that model is not clean."""
    card = read_card(path)
    if card.status != "clean":
        raise ValueError(f"{path.name} is the card of a model that is {card.status}, and no clean twin")
    return Twin(name=card.name, acc=card.acc.value)
