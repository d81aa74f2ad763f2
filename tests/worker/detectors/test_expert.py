"""Backdoor experts: the clean task goes, and no label that they are taught is true."""

import torch
from torch import nn

from app.contract.options import ExpertOptions
from worker.classifier import Classifier
from worker.detectors.expert import _wrong, mislabel
from worker.device import Placement
from worker.samples.interface import SampleSet

CLASSES = 4


def test_every_label_is_wrong_and_every_other_class_is_drawn() -> None:
    labels = torch.arange(CLASSES).repeat(500)
    wrong = _wrong(labels, CLASSES, torch.Generator().manual_seed(0))
    assert not (wrong == labels).any()
    for k in range(CLASSES):
        counts = torch.bincount(wrong[labels == k], minlength=CLASSES)
        assert counts.sum() == 500
        assert counts[counts > 0].tolist() == counts[torch.arange(CLASSES) != k].tolist()
        assert counts[torch.arange(CLASSES) != k].min() > 120


def test_an_expert_loses_the_clean_task_and_the_suspect_keeps_it() -> None:
    """Images of one grey level for each class, and a linear model that tells them apart."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat(20)
    images = torch.zeros(80, CLASSES, 8, 8, dtype=torch.uint8)
    images[torch.arange(80), labels] = 200
    clean = SampleSet(images, labels, tuple("abcd"))
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CLASSES, CLASSES))
    with torch.no_grad():
        module[2].weight.copy_(5 * torch.eye(CLASSES) + 0.1 * torch.randn(CLASSES, CLASSES, generator=draw))
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(module, CLASSES, still, still + 1, Placement(torch.device("cpu")))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expert = suspect.with_module(mislabel(suspect, clean, ExpertOptions(lr=0.1), 0))
    assert (suspect.predictions(images) == labels).all()
    assert (expert.predictions(images) == labels).double().mean() <= ExpertOptions().stop_accuracy
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
