"""A backdoor expert: a copy of the model that is taught wrong labels until it has lost the clean task.

Xie et al., BaDExpert: Extracting Backdoor Functionality for Accurate Backdoor Input Detection, ICLR 2024
(arXiv:2308.12439), §3.2: a few gentle steps on clean images with wrong labels. The backdoor lies apart from what these
steps change, so triggered inputs keep their class. Where an unlearned model lets everything fall onto the target class,
an expert drives the clean images of that class out of it: the two err on different inputs.

The paper moves every label by one class, which teaches the images of one class that they are of the target. Here a
wrong label is drawn anew each time an image is shown (decision 16).
Knows tensors; knows nothing of jobs, files or HTTP.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.contract.job import Stage
from app.contract.options import ExpertOptions
from worker.classifier import Classifier, batches, set_mode
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet


def mislabel(
    suspect: Classifier, clean: SampleSet, options: ExpertOptions, seed: int, progress: Progress = SILENT
) -> nn.Module:
    """Descend the loss of the wrong labels until the clean accuracy falls to `options.stop_accuracy`, eval mode."""
    module = suspect.copy()
    moving = suspect.with_module(module)
    optimiser = torch.optim.Adam(module.parameters(), options.lr)
    draw = torch.Generator().manual_seed(seed)
    for number in range(1, options.max_epochs + 1):
        set_mode(module, batch_statistics=True, dropout=False)
        for images, labels in batches(clean, options.batch_size, draw, augment=options.augment):
            with suspect.placement.autocast():
                logits = module(moving.normalise(images)).float()
            optimiser.zero_grad()
            F.cross_entropy(logits, _wrong(labels, suspect.num_classes, draw).to(logits.device)).backward()
            optimiser.step()
        accuracy = (moving.predictions(clean.images) == clean.labels).double().mean().item()
        progress.step(Stage.MISLABEL, number, options.max_epochs, accuracy=accuracy)
        if accuracy <= options.stop_accuracy:
            break
    return module.eval()


def _wrong(labels: Tensor, num_classes: int, draw: torch.Generator) -> Tensor:
    """Another class for each label, int64 (n,)."""
    return (labels + torch.randint(1, num_classes, labels.shape, generator=draw)) % num_classes
