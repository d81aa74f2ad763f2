"""Recovering: let the unlearned model find its clean task again through its filter masks alone.

Li et al., ICML 2023, §3.3: minimise α·loss over masks m ∈ [0, 1] that multiply the filters, all weights fixed. The
filters that the clean task wants switched off, the ones with the lowest masks, carried the backdoor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from app.contract.job import Stage
from app.contract.options import RecoverOptions
from app.contract.report import Epoch
from worker.classifier import Classifier, batches, label_shares, set_mode
from worker.progress import SILENT, Progress
from worker.rnp.masks import FilterMasks, masked_forward, ones
from worker.samples.interface import SampleSet


@dataclass(frozen=True, slots=True)
class Recovered:
    """The masks, and the road there."""

    masks: FilterMasks
    epochs: tuple[Epoch, ...]


def recover(
    unlearned: Classifier, clean: SampleSet, options: RecoverOptions, seed: int, progress: Progress = SILENT
) -> Recovered:
    """Descend the clean loss through the masks; they start at 1 and are clamped to [0, 1] after every step."""
    module = unlearned.copy().requires_grad_(
        requires_grad=False
    )  # only masks move: no gradient of any weight is computed
    masks = {name: mask.requires_grad_() for name, mask in ones(module).items()}
    optimiser = torch.optim.SGD(masks.values(), options.lr, momentum=options.momentum)
    draw = torch.Generator().manual_seed(seed)
    epochs = []
    for number in range(1, options.epochs + 1):
        epoch = _descend(unlearned.with_module(module), masks, clean, options, optimiser, draw, number)
        epochs.append(epoch)
        progress.step(Stage.RECOVER, number, options.epochs, accuracy=epoch.accuracy)
    values = {name: mask.detach().cpu() for name, mask in masks.items()}
    if options.decimals is not None:
        values = {name: mask.round(decimals=options.decimals) for name, mask in values.items()}
    return Recovered(FilterMasks(values), tuple(epochs))


def _descend(
    frozen: Classifier,
    masks: dict[str, Tensor],
    clean: SampleSet,
    options: RecoverOptions,
    optimiser: torch.optim.Optimizer,
    draw: torch.Generator,
    number: int,
) -> Epoch:
    """One pass of descent over the clean samples."""
    set_mode(frozen.module, batch_statistics=options.batch_statistics, dropout=options.dropout)
    losses, seen, truth = [], [], []  # the first two stay on the device: reading them would wait for it
    for images, labels in batches(clean, options.batch_size, draw, augment=options.augment):
        optimiser.zero_grad()
        with frozen.placement.autocast():
            logits = masked_forward(frozen.module, masks, frozen.normalise(images)).float()
        loss = F.cross_entropy(logits, labels.to(logits.device))
        (options.alpha * loss).backward()
        optimiser.step()
        with torch.no_grad():
            for mask in masks.values():
                mask.clamp_(0, 1)
        losses.append(loss.detach() * len(labels))
        seen.append(logits.detach().argmax(1))
        truth.append(labels)
    predictions, labels = torch.cat(seen).cpu(), torch.cat(truth)
    accuracy = (predictions == labels).double().mean().item()
    return Epoch(
        number=number,
        lr=options.lr,
        loss=torch.stack(losses).sum().item() / len(clean),
        accuracy=accuracy,
        held_accuracy=accuracy,
        label_shares=label_shares(predictions, frozen.num_classes),
    )
