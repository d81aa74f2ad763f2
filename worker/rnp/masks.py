"""Filter masks: one number in [0, 1] per filter, held beside the model by parameter name.

RNP multiplies a mask with the γ of every BatchNorm and leaves β alone (paper §3.3, `MaskBatchNorm2d` in the official
code). Here a mask multiplies the first axis of a named parameter, whatever module it belongs to, through
`functional_call`: no forked architectures, no replaced layers.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter and the mask that it was given."""

    parameter: str
    index: int
    mask: float


@dataclass(frozen=True, slots=True)
class FilterMasks:
    """`values`: parameter name -> float32 (filters,) on the CPU, in the order of the network."""

    values: Mapping[str, Tensor]

    def __len__(self) -> int:
        return sum(len(mask) for mask in self.values.values())

    def ranked(self) -> tuple[Filter, ...]:
        """All filters of all layers, lowest mask first; ties keep the order of the network."""
        filters = [
            Filter(name, index, value)
            for name, mask in self.values.items()
            for index, value in enumerate(mask.tolist())
        ]
        return tuple(sorted(filters, key=lambda f: f.mask))

    def below(self, threshold: float) -> tuple[Filter, ...]:
        """Filters whose mask is at or below `threshold`, lowest first."""
        return tuple(f for f in self.ranked() if f.mask <= threshold)


def mean(votes: Sequence[FilterMasks]) -> FilterMasks:
    """Masks of several runs on the *same* model, averaged filter by filter.

    One run's order is a noisy vote: the seed of the shuffling alone moves filters by many ranks.
    """
    return FilterMasks(
        {name: torch.stack([vote.values[name] for vote in votes]).mean(0) for name in votes[0].values}
    )


def maskable(module: nn.Module) -> dict[str, int]:
    """Parameter name -> number of filters.

    γ of every affine BatchNorm; in a net without any, the hidden rows of the MLPs of a LayerNorm net; else the rows of
    every convolution and linear layer but the last, which are the classes.
    """
    parts = dict(module.named_modules())
    norms = {
        f"{name}.weight": len(part.weight)
        for name, part in parts.items()
        if isinstance(part, _BatchNorm) and part.affine
    }
    return norms or _mlp_rows(parts) or _rows(parts)


def _mlp_rows(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    """Rows of each linear layer whose outputs feed the next linear layer of the same block, in a LayerNorm net."""
    if not any(isinstance(part, nn.LayerNorm) for part in parts.values()):
        return {}
    linears = [(name, part) for name, part in parts.items() if isinstance(part, nn.Linear)]
    return {
        f"{name}.weight": first.out_features
        for (name, first), (after, second) in itertools.pairwise(linears)
        if name.rpartition(".")[0] == after.rpartition(".")[0]
        and first.out_features == second.in_features
        and first.in_features == second.out_features
    }


def _rows(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    layers = [(n, p) for n, p in parts.items() if isinstance(p, nn.Linear | nn.modules.conv._ConvNd)]
    return {f"{name}.weight": len(part.weight) for name, part in layers[:-1]}


def ones(module: nn.Module) -> dict[str, Tensor]:
    """Masks that change nothing, on the device of the parameters they will multiply."""
    parameters = dict(module.named_parameters())
    return {name: torch.ones(n, device=parameters[name].device) for name, n in maskable(module).items()}


def masked_forward(module: nn.Module, masks: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Logits of `module` with each masked parameter multiplied along its first axis."""
    parameters = dict(module.named_parameters())
    masked = {
        name: parameters[name] * mask.view(-1, *(1,) * (parameters[name].dim() - 1))
        for name, mask in masks.items()
    }
    logits: Tensor = functional_call(module, masked, (images,))
    return logits
