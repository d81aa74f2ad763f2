"""What the BatchNorms of a net remember of the images it was trained on, and how other images differ from it.

Knows modules and tensors; knows nothing of pixels, files or jobs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

LEAST_VARIANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Moments:
    """Of what enters one layer: mean and mean square of each channel, (channels,)."""

    mean: Tensor
    square: Tensor

    @property
    def variance(self) -> Tensor:
        """Of each channel."""
        return (self.square - self.mean.square()).clamp(min=LEAST_VARIANCE)

    def mixed(self, other: "Moments", share: float) -> "Moments":
        """Those of both together, `share` of it the other's."""
        return Moments(self.mean.lerp(other.mean, share), self.square.lerp(other.square, share))


def remembering(module: nn.Module) -> dict[str, _BatchNorm]:
    """The BatchNorms of a module that keep running statistics, by name."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    }


class Entering:
    """Use it as a context: until its end, what enters the layers in a forward pass is kept, with its graph."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.layers = layers
        self.latest: dict[str, Tensor] = {}

    def __enter__(self) -> "Entering":
        self.hooks = [
            layer.register_forward_pre_hook(
                lambda _, inputs, name=name: self.latest.update({name: inputs[0]})
            )
            for name, layer in self.layers.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def moments(self) -> dict[str, Moments]:
        """Of the latest forward pass, of the layers that it went through."""
        found = {}
        for name, entered in self.latest.items():
            values = entered.float().transpose(0, 1).flatten(1)
            found[name] = Moments(values.mean(1), values.square().mean(1))
        return found


@torch.no_grad()
def over_all(module: nn.Module, entering: Entering, batches: Iterable[Tensor]) -> dict[str, Moments]:
    """Moments over all batches of what the module takes, layer by layer; in the mode that the module is in."""
    sums: dict[str, Moments] = {}
    seen = 0
    for batch in batches:
        module(batch)
        seen += len(batch)
        for name, moments in entering.moments().items():
            sums[name] = sums[name].mixed(moments, len(batch) / seen) if name in sums else moments
    return sums


def mismatch(module: nn.Module, batches: Iterable[Tensor]) -> float | None:
    """How far images are from what the module, in eval mode, remembers: mean over its layers; None: of nothing."""
    layers = remembering(module)
    if not layers:
        return None
    with Entering(layers) as entering:
        found = over_all(module, entering, batches)
    apart = [missed(layers[name], moments) for name, moments in found.items()]
    return torch.stack(apart).mean().item() if apart else None


def log_ratio(layer: _BatchNorm, moments: Moments) -> Tensor:
    """Of the variance of each channel to the one that is remembered, (channels,)."""
    assert layer.running_var is not None  # noqa: S101 - `remembering` has seen to it
    return (moments.variance / layer.running_var.clamp(min=LEAST_VARIANCE)).log()


def missed(layer: _BatchNorm, moments: Moments, usual: Tensor | float = 0.0, trust: float = 1.0) -> Tensor:
    """How far a layer's statistics are from what it remembers, squared, mean over its channels.

    `usual` is left out of the logarithms of variances; `trust` is what these count beside means.
    """
    assert layer.running_mean is not None  # noqa: S101 - `remembering` has seen to it
    assert layer.running_var is not None  # noqa: S101
    spread = layer.running_var.clamp(min=LEAST_VARIANCE).sqrt()
    shifted = (moments.mean - layer.running_mean) / spread
    return shifted.square().mean() + trust * (log_ratio(layer, moments) - usual).square().mean()
