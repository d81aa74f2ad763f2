"""What runs through a classifier: the features, which enter its last layer, and hints, which enter layers before it.

Knows modules; knows nothing of images or repairs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from worker.classifier import Classifier

HINTS = 6  # layers, evenly spaced in depth
LEAST_SPREAD = 1e-6  # of what is the same for every image


def head(classifier: Classifier, images: Tensor) -> str:
    """Name of the layer with weights that runs last, found by running it on some images."""
    return _ran(classifier, images)[-1]


def first_to_run(classifier: Classifier, images: Tensor, share: float) -> frozenset[str]:
    """Names of the parameters of that share of the layers with weights, those that run first; at least of one."""
    ran = _ran(classifier, images)
    layers = {name: classifier.module.get_submodule(name) for name in ran[: max(1, round(share * len(ran)))]}
    return frozenset(
        f"{name}.{own}".lstrip(".")
        for name, layer in layers.items()
        for own, _ in layer.named_parameters(recurse=False)
    )


def hinting(classifier: Classifier, images: Tensor) -> tuple[str, ...]:
    """Names of up to HINTS convolutions and linear layers between the first and the last that run."""
    named = dict(classifier.module.named_modules())
    inner = [name for name in _ran(classifier, images) if isinstance(named[name], nn.Conv2d | nn.Linear)][
        1:-1
    ]
    count = min(HINTS, len(inner))
    return tuple(inner[(2 * place + 1) * len(inner) // (2 * count)] for place in range(count))


def _ran(classifier: Classifier, images: Tensor) -> list[str]:
    """Every module that has parameters of its own, once each, in the order in which they run last."""
    ran: dict[str, None] = {}

    def keep(name: str) -> None:
        ran.pop(name, None)
        ran[name] = None

    hooks = [
        module.register_forward_hook(lambda *_, name=name: keep(name))
        for name, module in classifier.module.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    classifier.logits(images)
    for hook in hooks:
        hook.remove()
    return list(ran)


class Hints:
    """Use it as a context: until its end, every forward pass leaves here what enters the named layers."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        self.layers = {name: module.get_submodule(name) for name in names}
        self.latest: dict[str, Tensor] = {}

    def __enter__(self) -> "Hints":
        self.hooks = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: self._keep(name, inputs))
            for name, layer in self.layers.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _keep(self, name: str, inputs: tuple[Any, ...]) -> None:
        self.latest[name] = inputs[0]

    def missed(self, rows: slice, wanted: "Hints", those: Tensor | slice, images: int) -> Tensor:
        """How far the inputs `rows` are from `those` of the other, in their variance over images; mean over the layers.

        `images` is how many the other has seen. Layers in which images are not the first axis are left out.
        """
        apart = []
        for name, known in wanted.latest.items():
            seen = self.latest[name]
            if len(known) != images or known.shape[1:] != seen.shape[1:]:
                continue
            known = known.float()
            spread = known.var(0).mean().clamp(min=LEAST_SPREAD)
            apart.append((seen[rows].float() - known[those]).square().mean() / spread)
        return torch.stack(apart).mean() if apart else torch.zeros(())


class Features:
    """Use it as a context: until its end, every forward pass of the module leaves its features here."""

    def __init__(self, module: nn.Module, last: str) -> None:
        self.layer = module.get_submodule(last)
        self.latest: Tensor | None = None

    def __enter__(self) -> "Features":
        self.hook = self.layer.register_forward_pre_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def _keep(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.latest = inputs[0]

    def of(self, classifier: Classifier, images: Tensor) -> Tensor:
        """Of so many uint8 images as fit into one forward pass, on the CPU; `classifier` is the module's."""
        classifier.logits(images)
        return self.seen().detach().cpu()

    def seen(self) -> Tensor:
        """Of the latest forward pass: float32 (n, features), with their graph."""
        assert self.latest is not None  # noqa: S101 - a forward pass has run
        return self.latest.flatten(1).to(torch.float32)
