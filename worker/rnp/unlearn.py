"""Unlearning: make a copy of the model forget its clean task, so that what is left is the backdoor.

Li et al., Reconstructive Neuron Pruning for Backdoor Defense, ICML 2023 (arXiv:2305.14876), §3.2: maximise the clean
loss over all parameters until the clean accuracy falls to a bound. Knows tensors; knows nothing of jobs, files or HTTP.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.contract.job import Stage
from app.contract.options import UnlearnOptions
from app.contract.report import Epoch
from worker.classifier import Classifier, batches, label_shares, set_mode
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet

ABOVE_CHANCE = 1.1  # times 1/classes: below chance, nets of few classes do not forget but swap their labels


@dataclass(frozen=True, slots=True)
class Unlearned:
    """A copy that lost its clean task, and the road there."""

    module: nn.Module
    epochs: tuple[Epoch, ...]
    reached: bool  # False: accuracy never fell to `stop_accuracy`, so recovery has little to recover


def unlearn(
    suspect: Classifier, clean: SampleSet, options: UnlearnOptions, seed: int, progress: Progress = SILENT
) -> Unlearned:
    """Climb the clean loss until the accuracy falls to `options.stop_accuracy`, or the epochs are used up."""
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
    """One pass of ascent over the clean samples."""
    set_mode(moving.module, batch_statistics=options.batch_statistics, dropout=options.dropout)
    losses, hits = [], []  # stay on the device: reading a number there would wait for it, every step
    for images, labels in batches(clean, options.batch_size, draw, augment=options.augment):
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
    predictions = moving.predictions(clean.images)
    return Epoch(
        number=number,
        lr=optimiser.param_groups[0]["lr"],
        loss=torch.stack(losses).sum().item() / len(clean),
        accuracy=torch.stack(hits).sum().item() / len(clean),
        held_accuracy=_accuracy(predictions, clean.labels),
        label_shares=label_shares(predictions, moving.num_classes),
    )


def _accuracy(predictions: Tensor, labels: Tensor) -> float:
    return (predictions == labels).double().mean().item()
