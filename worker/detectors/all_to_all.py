"""All-to-all backdoors: one small change that sends every class to another (Gu et al., BadNets, 2017).

No class is favoured, so what asks for one is deaf to it: unlearning leads nowhere in particular, and no perturbation is
small that sends all images into one class. Asked to send them anywhere else, the same search finds the trigger.

Knows perturbations and predictions; knows not how a perturbation was found.
"""

import torch

from worker.classifier import Classifier
from worker.detectors.perturbation import Perturbation
from worker.samples.interface import SampleSet

FEWEST = 5  # images of a class, before most of them are led somewhere; one of one is on clean nets as well
SEVERAL = 0.35  # of the classes; natural ways lead into two of ten at most, a trigger's into five or more


def receivers(suspect: Classifier, found: Perturbation, clean: SampleSet) -> tuple[int, ...]:
    """The classes that receive more than half of the images of another one; none where these are few."""
    k = suspect.num_classes
    predicted = suspect.predictions(found.stamp(clean.images))
    led = torch.bincount(clean.labels * k + predicted, minlength=k * k).view(k, k).fill_diagonal_(0)
    count = clean.labels.bincount(minlength=k)[:, None]
    taken = ((2 * led > count) & (count >= FEWEST)).any(0)
    classes = tuple(taken.nonzero().flatten().tolist())
    return classes if len(classes) > max(1, SEVERAL * k) else ()
