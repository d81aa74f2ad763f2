"""How easily a backdoor comes back: a model is trained further on clean images, a few of which are poisoned.

Five poisoned images among 1,000 (2 % of CIFAR-10's training set), five epochs at 0.01: the retuning attack of Min et
al., Uncovering, Explaining, and Mitigating the Superficial Safety of Backdoor Defense, NeurIPS 2024. What a clean model
learns from the same images is what five poisoned images can teach, not what came back.
"""

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.zoo.attacks import Attack
from worker.classifier import Classifier, batches
from worker.samples.interface import SampleSet

IMAGES, POISONED = 1000, 5
EPOCHS, BATCH, LR, MOMENTUM = 5, 128, 0.01, 0.9


def poisoned(clean: SampleSet, attack: Attack, target: int, seed: int) -> SampleSet:
    """Some images of other classes with the trigger, labelled as the attacker wants."""
    wanted = attack.targets(clean.labels, target, len(clean.class_names))
    others = (wanted != clean.labels).nonzero().flatten()
    chosen = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:POISONED]]
    images, labels = clean.images.clone(), clean.labels.clone()
    images[chosen], labels[chosen] = attack.trigger(clean.images[chosen]), wanted[chosen]
    return SampleSet(images, labels, clean.class_names)


def retune(model: Classifier, samples: SampleSet, seed: int) -> nn.Module:
    """A copy of the module that was trained further, in eval mode."""
    module = deepcopy(model.module).train().requires_grad_()
    optimiser = torch.optim.SGD(module.parameters(), LR, momentum=MOMENTUM)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for images, labels in batches(samples, BATCH, draw, augment=True):
            with model.placement.autocast():
                logits = module(model.normalise(images)).float()
            optimiser.zero_grad()
            F.cross_entropy(logits, labels).backward()
            optimiser.step()
    return module.eval()
