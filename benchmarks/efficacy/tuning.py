"""Fine-tuning, plain and sharpness-aware: the defences that need nothing but clean images.

Settings are BackdoorBench's, with half of its epochs: SGD at 0.01, cosine, 50 epochs; FT-SAM (Zhu et al., ICCV 2023)
with an adaptive neighbourhood of radius 2.
"""

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F

from worker.classifier import Classifier, batches
from worker.samples.interface import SampleSet

EPOCHS, BATCH, LR, MOMENTUM, WEIGHT_DECAY = 50, 128, 0.01, 0.9, 5e-4
RADIUS = 2.0


def fine_tune(suspect: Classifier, clean: SampleSet, seed: int, *, sharpness_aware: bool) -> nn.Module:
    """A tuned copy of the suspect's module, in eval mode."""
    module = deepcopy(suspect.module).train()
    moving = suspect.with_module(module)
    optimiser = torch.optim.SGD(module.parameters(), LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for images, labels in batches(clean, BATCH, draw, augment=True):
            inputs = moving.normalise(images)

            def descend(inputs: torch.Tensor = inputs, labels: torch.Tensor = labels) -> None:
                optimiser.zero_grad()
                with moving.placement.autocast():
                    logits = moving.module(inputs).float()
                F.cross_entropy(logits, labels).backward()

            descend()
            if sharpness_aware:
                moved = _climb(module)
                descend()
                _return(moved)
            optimiser.step()
        schedule.step()
    return module.eval()


@torch.no_grad()
def _climb(module: nn.Module) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """To the worst point of the adaptive neighbourhood; where each parameter came from, by how much."""
    weights = [p for p in module.parameters() if p.grad is not None]
    scaled = [(p, p.abs() * p.grad) for p in weights if p.grad is not None]
    norm = torch.stack([s.norm() for _, s in scaled]).norm() + 1e-12
    moved = [(p, RADIUS * p.abs() * s / norm) for p, s in scaled]
    for p, step in moved:
        p.add_(step)
    return moved


@torch.no_grad()
def _return(moved: list[tuple[nn.Parameter, torch.Tensor]]) -> None:
    for p, step in moved:
        p.sub_(step)
