"""Unlearning: make a copy of the model forget its clean task, so that what is left is the backdoor.

Li et al., Reconstructive Neuron Pruning for Backdoor Defense, ICML 2023 (arXiv:2305.14876), §3.2: maximise the clean
loss over all parameters until the clean accuracy falls to a bound. Knows tensors; knows nothing of jobs, files or HTTP.
"""

import math
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.contract.job import Stage
from app.contract.options import UnlearnOptions
from app.contract.report import Epoch
from app.errors import ModelError
from worker.classifier import Classifier, batches, label_shares, set_mode
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet

ABOVE_CHANCE = 1.1  # times 1/classes: below chance, nets of few classes do not forget but swap their labels
# Images that an epoch shows at most, in whole batches: accuracy is looked at between epochs, and of 10,000 images the
# second one tore a net apart (loss 805) that had all but stopped after the first.
AN_EPOCH = 1000


@dataclass(frozen=True, slots=True)
class Unlearned:
    """A copy that lost its clean task, and the road there."""

    module: nn.Module
    epochs: tuple[Epoch, ...]
    reached: bool  # False: accuracy never fell to `stop_accuracy`, so recovery has little to recover


def unlearn(
    suspect: Classifier, clean: SampleSet, options: UnlearnOptions, seed: int, progress: Progress = SILENT
) -> Unlearned:
    """Climb the clean loss until the accuracy falls to `options.stop_accuracy`, or the epochs are used up.

    Raises `ModelError` (model.unlearning_diverged).
    """
    module = suspect.copy()
    optimiser = torch.optim.SGD(
        module.parameters(), options.lr, momentum=options.momentum, weight_decay=options.weight_decay
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, options.milestones, gamma=0.1)
    draw = torch.Generator().manual_seed(seed)
    epochs: list[Epoch] = []
    for number in range(1, options.max_epochs + 1):
        epoch = _ascend(suspect.with_module(module), clean, options, optimiser, draw, number)
        schedule.step()
        epochs.append(epoch)
        progress.step(Stage.UNLEARN, number, options.max_epochs, accuracy=epoch.held_accuracy)
        accuracy = epoch.accuracy if options.stop_on == "training" else epoch.held_accuracy
        if accuracy <= max(options.stop_accuracy, ABOVE_CHANCE / suspect.num_classes):
            return Unlearned(module.eval(), tuple(epochs), reached=True)
    return Unlearned(module.eval(), tuple(epochs), reached=False)


def _ascend(
    moving: Classifier,
    clean: SampleSet,
    options: UnlearnOptions,
    optimiser: torch.optim.Optimizer,
    draw: torch.Generator,
    number: int,
) -> Epoch:
    """One pass of ascent over the clean samples, or over as many of them as an epoch may show."""
    set_mode(moving.module, batch_statistics=options.batch_statistics, dropout=options.dropout)
    losses, hits, seen = [], [], 0  # stay on the device: reading a number there would wait for it, every step
    shown = batches(clean, options.batch_size, draw, augment=options.augment)
    for images, labels in islice(shown, math.ceil(AN_EPOCH / options.batch_size)):
        seen += len(labels)
        labels = labels.to(moving.placement.device)
        optimiser.zero_grad()
        with moving.placement.autocast():
            logits = moving.module(moving.normalise(images)).float()
        loss = F.cross_entropy(logits, labels)
        (-loss).backward()
        if options.clip_norm is not None:
            nn.utils.clip_grad_norm_(moving.module.parameters(), options.clip_norm)
        optimiser.step()
        losses.append(loss.detach() * len(labels))
        hits.append((logits.argmax(1) == labels).sum())
    loss_of_all = torch.stack(losses).sum().item() / seen
    if not math.isfinite(loss_of_all):
        raise ModelError(
            f"In epoch {number} of unlearning, the weights of the model left the range of numbers.",
            code="model.unlearning_diverged",
            remedy='Use fidelity="service", which clips the gradients, or a smaller unlearn.lr.',
        )
    predictions = moving.predictions(clean.images)
    return Epoch(
        number=number,
        lr=optimiser.param_groups[0]["lr"],
        loss=loss_of_all,
        accuracy=torch.stack(hits).sum().item() / seen,
        held_accuracy=_accuracy(predictions, clean.labels),
        label_shares=label_shares(predictions, moving.num_classes),
    )


def _accuracy(predictions: Tensor, labels: Tensor) -> float:
    return (predictions == labels).double().mean().item()
