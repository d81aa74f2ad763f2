"""What an attempt leaves for the next one: the unlearned models, so that a killed worker costs no second unlearning.

One safetensors file of weights and numbers, never a pickle: the process that wrote it may have been taken over by the
model that it was reading. What cannot be read, or was made by another version, is not there.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from app.contract.frozen import Frozen
from app.contract.options import SanitizeOptions
from app.contract.report import Epoch
from worker.classifier import Classifier
from worker.detectors.target_label import label_shift, strongest
from worker.pipelines.fall import Fallen, fall, follows_batches
from worker.progress import Progress
from worker.rnp.unlearn import Unlearned
from worker.samples.interface import SampleSet

STORY, CPU, CUDA = "story", "random.cpu", "random.cuda"


class Checkpoints(Protocol):
    """Where an attempt keeps what the next one need not do again."""

    def restore(self, suspect: Classifier, options: SanitizeOptions) -> Fallen | None:
        """What an attempt before this one kept; None where there is nothing of use."""

    def keep(self, fallen: Fallen, options: SanitizeOptions) -> None:
        """Keep it for the attempt after this one."""


class Nowhere:
    """Keeps nothing: the command line has one attempt."""

    def restore(self, suspect: Classifier, options: SanitizeOptions) -> Fallen | None:
        """Nothing was kept."""

    def keep(self, fallen: Fallen, options: SanitizeOptions) -> None:
        """Do nothing."""


NOWHERE = Nowhere()


def fallen_once(
    suspect: Classifier,
    fit: SampleSet,
    options: SanitizeOptions,
    progress: Progress,
    checkpoints: Checkpoints,
) -> Fallen:
    """What unlearning shows; an attempt after this one need not unlearn again. Raises `ModelError`."""
    fallen = checkpoints.restore(suspect, options)
    if fallen is None:
        fallen = fall(suspect, fit, options, progress)
        checkpoints.keep(fallen, options)
    return fallen


class Run(Frozen):
    """The road of one unlearned model."""

    epochs: tuple[Epoch, ...]
    reached: bool


class Story(Frozen):
    """What of a checkpoint is no tensor."""

    version: str
    options: SanitizeOptions
    before: Epoch
    runs: tuple[Run, ...]
    movement: tuple[float, ...] | None  # of each row of the last layer


def write(path: Path, fallen: Fallen, options: SanitizeOptions) -> None:
    """Write a new file, under its own name only when it is whole. Raises `OSError`, and leaves nothing behind."""
    story = Story(
        version=version("model-sanitizer"),
        options=options,
        before=fallen.before,
        runs=tuple(Run(epochs=run.epochs, reached=run.reached) for run in fallen.runs),
        movement=fallen.movement.per_class if fallen.movement else None,
    )
    tensors = {
        f"{place}.{name}": tensor.detach().cpu().contiguous().clone()
        for place, run in enumerate(fallen.runs)
        for name, tensor in run.module.state_dict().items()
    }
    tensors[CPU] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors[CUDA] = torch.cuda.get_rng_state()
    part = path.with_suffix(".part")
    try:
        part.write_bytes(save(tensors, {STORY: json.dumps(story.model_dump(mode="json"))}))
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def read(path: Path, suspect: Classifier, options: SanitizeOptions) -> Fallen | None:
    """What `write` wrote for this suspect and these options, and the state of the random numbers with it."""
    try:
        with safe_open(path, "pt") as file:
            story = Story.model_validate_json((file.metadata() or {})[STORY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if (story.version, story.options) != (version("model-sanitizer"), options):
            return None
        runs = tuple(
            Unlearned(_module(suspect, tensors, f"{place}."), run.epochs, run.reached)
            for place, run in enumerate(story.runs)
        )
        torch.set_rng_state(tensors[CPU])
        if CUDA in tensors and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(tensors[CUDA])
    except (OSError, SafetensorError, ValidationError, KeyError, RuntimeError, TypeError):
        return None
    shift = label_shift(story.before, [run.epochs for run in runs])
    movement = strongest(story.movement) if story.movement else None
    return Fallen(story.before, runs, shift, movement, follows_batches(suspect, options))


def _module(suspect: Classifier, tensors: dict[str, Tensor], prefix: str) -> torch.nn.Module:
    """A copy of the suspect with those weights. Raises `RuntimeError` where they are not its own."""
    module = suspect.copy()
    module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
    return module.eval()
