"""The features of a classifier: what enters its last layer. Knows modules; knows nothing of images or repairs."""

from typing import Any

import torch
from torch import Tensor, nn

from worker.classifier import Classifier


def head(classifier: Classifier, images: Tensor) -> str:
    """Name of the layer with weights that runs last, found by running it on some images."""
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in classifier.module.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    classifier.logits(images)
    for hook in hooks:
        hook.remove()
    return ran[-1]


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
        """Of at most EVAL_BATCH uint8 images, on the CPU; `classifier` is the module's."""
        classifier.logits(images)
        return self.seen().detach().cpu()

    def seen(self) -> Tensor:
        """Of the latest forward pass: float32 (n, features), with their graph."""
        assert self.latest is not None  # noqa: S101 - a forward pass has run
        return self.latest.flatten(1).to(torch.float32)
