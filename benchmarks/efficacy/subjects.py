"""The models of the zoo, and for each seed the images that a defence is given and those that judge it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from app.contract.options import SanitizeOptions
from benchmarks.zoo import images
from benchmarks.zoo.card import read_card
from benchmarks.zoo.images import Images
from benchmarks.zoo.planted import attack_of
from benchmarks.zoo.training import MEAN, STD
from worker.classifier import Classifier
from worker.device import Placement
from worker.formats.identify import AUTO
from worker.formats.load import load

WEIGHTS = Path(__file__).parents[1] / "zoo" / "weights"
CARDS = Path(__file__).parents[1] / "zoo" / "cards"  # of models that are made by command and not kept
TEST = "cifar10-test.zip"
EVALUATED = 2000  # images, of those that no defence was given


@dataclass(frozen=True, slots=True)
class Subject:
    """One model and what was planted in it; `attack` is None where nothing was."""

    name: str
    path: Path
    attack: str | None
    target: int
    twin: Path | None = None  # a clean model that was trained likewise
    architecture: str = AUTO  # named where a library has it, which no file can tell
    input_size: int | None = None  # pixels a side, where the images are resized for it
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def options(self, seed: int, **given: object) -> SanitizeOptions:
        """What the product is told: what it must know of the model, a seed, and whatever else is given."""
        named = {"architecture": self.architecture, "input_size": self.input_size, "seed": seed}
        return SanitizeOptions.model_validate({**named, **given})


@dataclass(frozen=True, slots=True)
class Exam:
    """What judges a model: clean images, and the triggered ones with their true and their wanted classes."""

    clean: Tensor
    labels: Tensor
    triggered: Tensor
    true: Tensor
    wanted: Tensor


def subjects(*folders: Path) -> list[Subject]:
    """Every model that has a card in the folders, or in the zoo when none is named, by folder and name."""
    return [subject(path) for folder in folders or (WEIGHTS,) for path in sorted(folder.glob("*.json"))]


def subject(path: Path) -> Subject:
    """The model whose card that is. Raises `ValueError` where it is none."""
    card = read_card(path)
    planted, twin = card.planted, card.twin
    return Subject(
        name=card.name,
        path=path.with_suffix(".safetensors"),
        attack=planted.attack if planted else None,
        target=(planted and planted.target) or 0,
        twin=path.with_name(f"{twin.name}.safetensors") if twin else None,
        architecture=card.architecture if "/" in card.architecture else AUTO,
        input_size=card.input_size,
        mean=card.mean,
        std=card.std,
    )


def accurate(least: float) -> set[str]:
    """The models of the zoo, kept or not, whose accuracy on the whole test split is at least that."""
    cards = [read_card(path) for folder in (WEIGHTS, CARDS) for path in folder.glob("*.json")]
    return {card.name for card in cards if card.acc.value >= least}


def divide(test: Images, per_class: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices into `test`: `per_class` of each class for the defence, those that judge, and what is left."""
    order = torch.randperm(len(test.labels), generator=torch.Generator().manual_seed(seed))
    given = [order[test.labels[order] == k][:per_class] for k in range(len(test.classes))]
    rest = order[~torch.isin(order, torch.cat(given))]
    return torch.cat(given), rest[:EVALUATED], rest[EVALUATED:]


def exam(subject: Subject, test: Images, index: Tensor) -> Exam:
    """The images at `index`, clean and with the trigger of the subject; those of the wanted class are left out."""
    clean, labels = test.pixels[index], test.labels[index]
    attack = attack_of(subject.attack, subject.path) if subject.attack else None
    wanted = attack.targets(labels, subject.target, len(test.classes)) if attack else labels
    others = wanted != labels
    triggered = attack.trigger(clean[others]) if attack else clean[others]
    return Exam(clean, labels, triggered, labels[others], wanted[others])


def classifier(path: Path, placement: Placement, of: Subject | None = None) -> Classifier:
    """The model in a file, built and normalised as that subject, or as the zoo's are."""
    model = load(path, of.architecture, of.input_size) if of else load(path)
    pixels = (of.mean, of.std) if of else (MEAN, STD)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in pixels)
    return Classifier(placement.take(model.module), model.num_classes, mean, std, placement)


def read_test(data: Path) -> Images:
    """The test split of CIFAR-10 in ImageFolder layout."""
    return images.read(data / TEST)
