"""torchvision and timm classifiers by name, when these libraries are installed.

They are optional and heavy: nothing here is imported before a model asks for it. Never downloads weights.
"""

import math
from functools import cache
from importlib import import_module
from typing import Any

from torch import nn
from torch.library import Library

from worker.formats.architectures.interface import Architecture, Shapes, first_axes

TORCHVISION, TIMM = "torchvision/", "timm/"

# What torchvision calls the layer that gives the logits. Order matters: a head of several layers ends in the last.
HEADS = (
    "fc",
    "heads.head",
    "head",
    "classifier",
    "classifier.6",
    "classifier.5",
    "classifier.3",
    "classifier.2",
    "classifier.1",
)
SLOW_START = ("googlenet", "inception_v3")  # they draw initial weights for seconds unless told not to
NEAR = 1.25  # parameter counts further apart than this factor are not worth building
NEAREST = 4
STATED_CLASSES = 1000  # torchvision states parameter counts of its ImageNet models


def find(name: str) -> Architecture | None:
    """The classifier called `torchvision/NAME` or `timm/NAME`; None when unknown or not installed."""
    if name.startswith(TORCHVISION) and name in _torchvision_names():
        return _from_torchvision(name.removeprefix(TORCHVISION))
    # timm would take a name such as hf-hub:… for an address to load from: only plain names get there.
    if name.startswith(TIMM) and name in _timm_names():
        return _from_timm(name.removeprefix(TIMM))
    return None


def names() -> tuple[str, ...]:
    """All classifiers of the installed libraries."""
    return _torchvision_names() + _timm_names()


def nearest(shapes: Shapes) -> tuple[str, ...]:
    """The torchvision classifiers with about as many parameters, nearest first.

    The counts that torchvision states with its weights make this cheap; building all its models takes half a minute.
    """
    found = _infer(shapes)
    if found is None or not _torchvision_names():
        return ()
    key = next(f"{head}.weight" for head in HEADS if f"{head}.weight" in shapes)
    row = math.prod(shapes[key][1:]) + 1  # and its bias
    ours = _count(shapes) + (STATED_CLASSES - found["num_classes"]) * row
    distances: dict[str, float] = {}
    for name in _torchvision_names():
        entries = _torchvision().get_model_weights(name.removeprefix(TORCHVISION))
        stated = (entry.meta["num_params"] for entry in entries)
        distances[name] = min(abs(math.log(max(ours, 1) / theirs)) for theirs in stated)
    close = sorted(
        (name for name in distances if distances[name] < math.log(NEAR)), key=distances.__getitem__
    )
    return tuple(close[:NEAREST])


def _count(shapes: Shapes) -> int:
    # Buffers are no parameters, and GoogLeNet is stated without the two auxiliary heads that its files hold.
    skipped = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
    return sum(
        math.prod(shape)
        for key, shape in shapes.items()
        if not key.endswith(skipped) and not key.startswith(("aux1.", "aux2."))
    )


def _infer(shapes: Shapes) -> dict[str, int] | None:
    for head in HEADS:
        if found := first_axes(shapes, num_classes=f"{head}.weight"):
            return found
    return None


def _from_torchvision(name: str) -> Architecture:
    models: Any = _torchvision()
    size = min(entry.transforms.keywords["crop_size"] for entry in models.get_model_weights(name))
    extra = {"init_weights": False} if name in SLOW_START else {}

    def build(num_classes: int) -> nn.Module:
        module: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **extra)
        return module

    return Architecture(build, _infer, (3, size, size))


def _from_timm(name: str) -> Architecture:
    timm: Any = _timm()
    stated = timm.get_pretrained_cfg(name)
    head = stated.classifier if stated else None
    heads = head if isinstance(head, tuple) else (head,)  # distilled transformers have two
    _, height, width = stated.input_size if stated else (3, 224, 224)

    def build(num_classes: int) -> nn.Module:
        module: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
        return module

    def infer(shapes: Shapes) -> dict[str, int] | None:
        return first_axes(shapes, num_classes=f"{heads[0]}.weight")

    return Architecture(build, infer, (3, height, width))


@cache
def _torchvision_names() -> tuple[str, ...]:
    models = _torchvision()
    # Only of the module itself: its siblings detect, segment, or read videos.
    return tuple(TORCHVISION + name for name in models.list_models(module=models)) if models else ()


@cache
def _timm_names() -> tuple[str, ...]:
    timm = _timm()
    return tuple(TIMM + name for name in timm.list_models()) if timm else ()


@cache
def _torchvision() -> Any:  # noqa: ANN401  # the module, which has no types of its own
    return _import("torchvision.models")


@cache
def _timm() -> Any:  # noqa: ANN401
    return _import("timm") if _torchvision() else None  # timm imports torchvision


def _import(name: str) -> Any:  # noqa: ANN401
    try:
        return import_module(name)
    except ImportError:
        return None
    except RuntimeError:  # operator torchvision::nms does not exist
        _define_operators()
        return import_module(name)


@cache
def _define_operators() -> Library:
    """Declare the operators that a torchvision built for CUDA lacks beside a torch without it.

    No classifier calls them, but torchvision describes them while it is imported. They live as long as the library
    object, hence the cache.
    """
    library = Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
