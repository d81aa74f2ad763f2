"""The first witness: a model is unlearned, once for each seed, and it is seen where its predictions fall."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from app.contract.options import SanitizeOptions
from app.contract.report import Epoch
from app.errors import ModelError
from worker.classifier import Classifier, label_shares
from worker.detectors.target_label import Pull, head_movement, label_shift
from worker.progress import Progress
from worker.repair.features import head
from worker.rnp.unlearn import Unlearned, unlearn
from worker.samples.interface import SampleSet

LEARNED = 0.1  # share of the way from chance to perfect that a model must go to be worth looking at


@dataclass(frozen=True, slots=True)
class Fallen:
    """What unlearning a model, once for each seed, showed."""

    before: Epoch  # the model itself, measured like an epoch
    runs: tuple[Unlearned, ...]
    shift: Pull | None  # where the predictions went
    movement: Pull | None  # which row of the last layer moved
    follows_batches: (
        bool  # without BatchNorm that does, any net falls onto one class, and nothing can be read from it
    )


def fall(suspect: Classifier, fit: SampleSet, options: SanitizeOptions, progress: Progress) -> Fallen:
    """Unlearn a model and see where its predictions go. Raises `ModelError` when there is nothing to unlearn."""
    predictions = suspect.predictions(fit.images)
    accuracy = (predictions == fit.labels).double().mean().item()
    chance = 1 / suspect.num_classes
    if accuracy < chance + LEARNED * (1 - chance):
        raise ModelError(
            f"The model gets {accuracy:.1%} of {len(fit)} clean samples right, and chance alone gets {chance:.1%}.",
            code="model.at_chance",
            remedy="Check the order of the classes (classes.json), --normalize and --architecture, and that the "
            "samples are of the task that the model was trained for.",
        )
    before = Epoch(
        number=0,
        lr=0,
        loss=0,
        accuracy=accuracy,
        held_accuracy=accuracy,
        label_shares=label_shares(predictions, suspect.num_classes),
    )
    seeds = range(options.seed, options.seed + options.evidence.seeds)
    runs = tuple(unlearn(suspect, fit, options.unlearn, seed, progress) for seed in seeds)
    shift = label_shift(before, [run.epochs for run in runs])
    movement = _movement(suspect, fit, [run.module for run in runs]) if shift else None
    return Fallen(before, runs, shift, movement, follows_batches(suspect, options))


def follows_batches(suspect: Classifier, options: SanitizeOptions) -> bool:
    """Whether unlearning normalises by the batch anywhere."""
    return options.unlearn.batch_statistics and any(
        isinstance(part, _BatchNorm) for part in suspect.module.modules()
    )


def _movement(suspect: Classifier, fit: SampleSet, unlearned: Sequence[nn.Module]) -> Pull | None:
    """None where the last layer has no row of weights for each class."""
    last = f"{head(suspect, fit.images[:1])}.weight"
    rows, *moved = (dict(module.named_parameters()).get(last) for module in (suspect.module, *unlearned))
    if rows is None or len(rows) != suspect.num_classes:
        return None
    return head_movement(rows.detach().cpu(), [other.detach().cpu() for other in moved if other is not None])
