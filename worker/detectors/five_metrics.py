"""Backdoor sample detection from labels alone: five metrics of how an input behaves when it is mixed and disturbed.

Fu et al., Differential Analysis of Triggers and Benign Features for Black-Box DNN Backdoor Detection, IEEE TIFS 18,
2023 (arXiv:2307.05422). A trigger decides wherever it is pasted, and a triggered input loses its class where
the trigger is covered; clean inputs do neither. Each metric is a curve over the sizes of a pasted box or the strengths
of noise; novelty detectors know the curves of clean images, and a last one knows their answers. What the official code
does with its own training points is mended: every clean image is judged by detectors that have not seen it.

Asks a black box: float pixels in [0, 1] in, classes out. Knows nothing of models, files or jobs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor

from app.contract.options import Grid
from worker.samples.interface import SampleSet

BlackBox = Callable[[Tensor], Tensor]  # float (n, c, h, w) -> int64 (n,)
Numbers = NDArray[np.float64]

FEWEST = 3  # clean images; each is judged by detectors that need two
METRICS = 5  # robustness, weakness, sensitivity, inverse sensitivity, noise
NEIGHBOURS = 2 / 3  # of the clean images, as 20 of 30 are; see decision 16
FOLDS = 100  # of the clean images; each is judged by detectors that were fitted to the others


def curves(ask: BlackBox, pixels: Tensor, partners: SampleSet, grid: Grid, seed: int) -> Numbers:
    """Metrics of each image, (n, METRICS, sizes); `pixels` float (n, c, h, w) in [0, 1].

    A curve that has fewer points than the longest ends in zeros. An image is measured alone: neither its neighbours
    nor its place change its curves.
    """
    pasted = partners.images.to(torch.float32) / 255
    noise = _noise(pixels.shape[1:], grid, seed)
    found = np.zeros((len(pixels), METRICS, max(len(grid.boxes), len(grid.noises))))
    for curve, image, label in zip(found, pixels, ask(pixels), strict=True):
        onto = ask(torch.cat([_pasted(image, pasted, box) for box in grid.boxes])).view(-1, len(pasted))
        into = ask(torch.cat([_pasted(pasted, image, box) for box in grid.boxes])).view(-1, len(pasted))
        disturbed = ask((image + noise).flatten(0, 1)).view(noise.shape[:2])
        agree = (onto == label, onto == partners.labels, into == label, into == partners.labels)
        for metric, hits in enumerate((*agree, disturbed == label)):
            curve[metric, : len(hits)] = hits.double().mean(1).numpy()
    return found


@dataclass(frozen=True, slots=True)
class Novelty:
    """How unlike clean images' curves others are; larger is less alike. See `learn`."""

    known: Numbers  # (n, METRICS, sizes) of clean images
    answers: Numbers  # (n, METRICS) of detectors that had not seen the image

    def scores(self, found: Numbers) -> Numbers:
        """Of other images, (m,)."""
        unlike: Numbers = -_detector(self.answers).score_samples(_answers(self.known, found))
        return unlike

    def of_the_known(self) -> Numbers:
        """Of the clean images themselves, each judged without itself, (n,)."""
        scores = np.empty(len(self.known))
        for fold, rest in _folds(len(self.known)):
            scores[fold] = -_detector(self.answers[rest]).score_samples(self.answers[fold])
        return scores


def learn(known: Numbers) -> Novelty:
    """From the curves of clean images (n, METRICS, sizes), n ≥ FEWEST."""
    answers = np.empty(known.shape[:2])
    for fold, rest in _folds(len(known)):
        answers[fold] = _answers(known[rest], known[fold])
    return Novelty(known, answers)


def _answers(known: Numbers, found: Numbers) -> Numbers:
    """What five detectors, one for each metric, say of others' curves, (m, METRICS); small: unlike."""
    return np.stack(
        [_detector(known[:, metric]).score_samples(found[:, metric]) for metric in range(METRICS)], axis=1
    )


def _detector(points: Numbers) -> LocalOutlierFactor:
    return LocalOutlierFactor(
        n_neighbors=min(max(1, round(NEIGHBOURS * len(points))), len(points) - 1), novelty=True
    ).fit(points)


def _folds(n: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Each image in one fold, and the images outside it."""
    places = np.arange(n)
    for fold in np.array_split(places, min(FOLDS, n)):
        yield fold, np.setdiff1d(places, fold)


def _pasted(middle: Tensor, around: Tensor, box: float) -> Tensor:
    """The centre of one image in the other, (n, c, h, w) where one of them is one image and the other is n."""
    rows, columns = (_centre(length, box) for length in middle.shape[-2:])
    images = around.expand(torch.broadcast_shapes(middle.shape, around.shape)).clone()
    images[..., rows, columns] = middle[..., rows, columns]
    return images


def _centre(length: int, share: float) -> slice:
    """That share of a side, in the middle."""
    inside = max(1, int(share * length))
    first = (length - inside) // 2
    return slice(first, first + inside)


def _noise(shape: torch.Size, grid: Grid, seed: int) -> Tensor:
    """The same for every image: (strengths, draws, c, h, w), unclamped, as published."""
    drawn = torch.randn(grid.draws, *shape, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(grid.noises).view(-1, 1, 1, 1, 1) * drawn
