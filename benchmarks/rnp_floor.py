"""How fast the products of a net are by themselves: each layer alone, forward and both gradients, as we place it.

The peak is that of one large product, which no layer of a small net is. What a training step adds (normalisation,
activations, the optimiser) moves bytes and counts no FLOPs, so no step is faster than its layers are.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from worker.classifier import Classifier
from worker.device import seconds


def layers_alone(suspect: Classifier, images: Tensor) -> float:
    """FLOP/s of all convolutions and matrix products of a step on uint8 images, one after the other."""
    spent, counted = 0.0, 0
    for module, shape, first in _met(suspect, images):
        work = _step(suspect, module, shape, first=first)
        with FlopCounterMode(display=False) as counter:
            work()
        spent += seconds(work)[0]
        counted += counter.get_total_flops()
    return counted / spent


def _met(suspect: Classifier, images: Tensor) -> list[tuple[nn.Module, torch.Size, bool]]:
    """The layers in the order in which a forward pass meets them, and the shapes of what enters them."""
    met: list[tuple[nn.Module, torch.Size, bool]] = []
    layers = [m for m in suspect.module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: met.append((module, inputs[0].shape, not met)))
        for layer in layers
    ]
    suspect.logits(images)
    for hook in hooks:
        hook.remove()
    return met


def _step(suspect: Classifier, module: nn.Module, shape: torch.Size, *, first: bool) -> Callable[[], Tensor]:
    """One layer, forward and backward; nobody asks for the gradient of the images."""
    place = suspect.placement
    entering = torch.randn(shape, device=place.device, dtype=place.precision)
    if len(shape) == len("nchw"):
        entering = entering.contiguous(memory_format=place.memory_format)
    entering.requires_grad_(not first)
    module.requires_grad_()
    with place.autocast():
        leaving = torch.randn_like(module(entering))

    def work() -> Tensor:
        with place.autocast():
            left: Tensor = module(entering)
        left.backward(leaving)
        return left

    return work
