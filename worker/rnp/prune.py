"""Pruning: switch off, in the *original* model, the filters whose masks fell.

Li et al., ICML 2023, §3.4. As in the official code the masked parameter's row becomes 0 and nothing else changes: with
BatchNorm γ becomes 0 and β stays, so the filter answers with the constant β.
"""

from collections.abc import Sequence

import torch
from torch import nn

from worker.classifier import Classifier
from worker.rnp.masks import Filter

PRUNED_VALUE = 0.0


def prune(suspect: Classifier, filters: Sequence[Filter]) -> nn.Module:
    """A copy of the suspect module with `filters` switched off."""
    module = suspect.copy()
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for dead in filters:
            parameters[dead.parameter][dead.index] = PRUNED_VALUE
    return module
