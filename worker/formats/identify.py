"""Stored tensors -> a module with these weights, by a named architecture or by whichever fits exactly.

A fit means every key with its shape, and no other key. Comparing costs no memory: candidates are built without storage.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from app.errors import ModelError
from worker.formats import architectures
from worker.formats.architectures import vision
from worker.formats.architectures.comparison import OPTIONAL, Comparison, compare
from worker.formats.architectures.interface import Architecture, Shapes
from worker.formats.architectures.spec import canonical, check, parse

AUTO = "auto"
# Masks that BackdoorBench, ANP and the official RNP code leave in the files of their masked models.
LEFTOVERS = (".neuron_mask", ".neuron_noise", ".neuron_noise_bias")
GUESSED_CLASSES = 10  # for a comparison with a file whose classification layer was not found
SUGGESTIONS = 3
PLAUSIBLE = 0.1  # share of keys and shapes below which an architecture is not worth suggesting
DEPTH = re.compile(r"\d+")
WAYS = "torchvision/NAME or timm/NAME (both need the vision extra)"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A module in eval mode with the weights as float32 on the CPU, and how it was understood."""

    module: nn.Module
    architecture: str  # "resnet18_cifar:width=32"
    identified: bool  # found from keys and shapes, not named by the user
    num_classes: int
    input_shape: tuple[int, int, int]
    ignored: tuple[str, ...]  # left-over masks of other defences; the module computes as if they were one


@dataclass(frozen=True, slots=True)
class _Candidate:
    spec: str
    architecture: Architecture
    num_classes: int
    arguments: Mapping[str, int]
    comparison: Comparison

    def build(self) -> nn.Module:
        return _quietly(lambda: self.architecture.build(self.num_classes, **self.arguments))


def resolve(tensors: Mapping[str, Tensor], requested: str, prefix: str = "") -> Resolved:
    """Load `tensors` into the architecture `requested`, a spec such as `resnet18_cifar:width=32`, or `auto`.

    Arguments that a spec leaves out are read from the shapes. Raises `ModelError` with the nearest architectures when
    nothing fits and on masks of other defences that do something, `OptionsError` on arguments that cannot be.
    """
    own = _own_names(tensors, prefix)
    ignored = tuple(key for key in own if key.endswith(LEFTOVERS))
    _check_neutral({key: own[key] for key in ignored})
    weights = {key: tensor for key, tensor in own.items() if key not in ignored}
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    candidate = _identify(shapes) if requested == AUTO else _named(shapes, requested)
    if candidate.num_classes < 2:
        raise ModelError(
            f"The model has {candidate.num_classes} output; a classifier with at least two is needed.",
            code="model.single_output",
            remedy="Submit a model with one output for each class.",
        )
    return Resolved(
        module=_loaded(candidate, weights),
        architecture=candidate.spec,
        identified=requested == AUTO,
        num_classes=candidate.num_classes,
        input_shape=candidate.architecture.input_shape,
        ignored=ignored,
    )


def _check_neutral(leftovers: Mapping[str, Tensor]) -> None:
    """A mask of one changes nothing; noise is there for training alone."""
    at_work = [
        key for key, tensor in leftovers.items() if key.endswith(LEFTOVERS[0]) and bool((tensor != 1).any())
    ]
    if at_work:
        raise ModelError(
            f"{len(at_work)} masks of another defence are at work in this model, the first is {at_work[0]!r}.",
            code="model.masked",
            remedy="Multiply the masks into the weights and shifts of their layers, and leave them out of the file.",
        )


def _own_names(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    if not own or len(own) < len(tensors):
        detail = f"Keys occur both with and without {prefix!r}." if own else "The file holds no tensors."
        raise ModelError(
            detail,
            code="model.not_a_state_dict",
            remedy="Save model.state_dict() of one model, and nothing beside it.",
        )
    return own


def _identify(shapes: Shapes) -> _Candidate:
    seen = []
    for candidate in _candidates(shapes):
        if candidate.comparison.exact:
            return candidate
        seen.append(candidate)
    if not any(key.endswith("weight") and len(shape) == 2 for key, shape in shapes.items()):
        detail = "The file holds no classification layer: none of its weights is a matrix."
    else:
        detail = "No known architecture has exactly these keys and shapes."
    raise _mismatch(detail, "model.unknown_architecture", seen, None)


def _named(shapes: Shapes, requested: str) -> _Candidate:
    spec = parse(requested)
    architecture = architectures.find(spec.name)
    if architecture is None:
        raise _unknown(spec.name)
    check(spec, architecture)
    candidate = _compared(spec.name, architecture, shapes, spec.given)
    if not candidate.comparison.exact:
        detail = f"The file does not hold a {candidate.spec}."
        others = [other for other in _candidates(shapes) if other.spec != candidate.spec]
        raise _mismatch(detail, "model.architecture_mismatch", [candidate, *others], candidate)
    return candidate


def _candidates(shapes: Shapes) -> Iterator[_Candidate]:
    for name in _names(shapes):
        architecture = architectures.find(name)
        if architecture is not None:
            yield _compared(name, architecture, shapes, {})


def _names(shapes: Shapes) -> Iterator[str]:
    """Ours first, those with the most landmarks before the others; torchvision takes seconds to import."""
    registry = architectures.REGISTRY
    yield from sorted(registry, key=lambda name: -len(registry[name].infer(shapes) or ()))
    yield from vision.nearest(shapes)


def _compared(name: str, architecture: Architecture, shapes: Shapes, given: Mapping[str, int]) -> _Candidate:
    inferred = architecture.infer(shapes) or {}
    num_classes = inferred.get("num_classes", GUESSED_CLASSES)
    arguments = {}
    for key, argument in architecture.arguments.items():
        value = given.get(key, inferred.get(key, argument.default))
        arguments[key] = value if value in argument.allowed else argument.default
    module = _without_storage(lambda: architecture.build(num_classes, **arguments))
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    spec = canonical(name, architecture, arguments)
    return _Candidate(spec, architecture, num_classes, arguments, compare(expected, shapes))


def _without_storage(build: Callable[[], nn.Module]) -> nn.Module:
    try:
        with torch.device("meta"):
            return _quietly(build)
    except RuntimeError:  # a few, such as RegNet, compute their widths with tensors and need real ones
        return _quietly(build)


def _quietly(build: Callable[[], nn.Module]) -> nn.Module:
    """Build without moving the global random numbers: the initial weights are thrown away."""
    with torch.random.fork_rng(devices=[]):
        return build()


def _loaded(candidate: _Candidate, weights: Mapping[str, Tensor]) -> nn.Module:
    module = candidate.build().float().eval()
    for key, target in module.state_dict().items():
        if key.endswith(OPTIONAL) or not target.is_floating_point():
            continue
        if not weights[key].is_floating_point():
            raise ModelError(
                f"{key} is stored as {weights[key].dtype}, which is no floating-point type.",
                code="model.unsupported_dtype",
                remedy="Submit the model before quantisation, with float32, float16 or bfloat16 weights.",
            )
        if not weights[key].to(torch.float32).isfinite().all():
            raise ModelError(
                f"{key} holds numbers that are not finite in float32.",
                code="model.nonfinite_weights",
                remedy="Submit a checkpoint from before the training diverged.",
            )
    module.load_state_dict(weights, strict=False)  # only counters may be missing: the comparison was exact
    return module


def _mismatch(
    detail: str, code: str, candidates: list[_Candidate], compared: _Candidate | None
) -> ModelError:
    ranked = sorted(candidates, key=lambda candidate: -candidate.comparison.share)
    likely = [candidate for candidate in ranked if candidate.comparison.share >= PLAUSIBLE][:SUGGESTIONS]
    parts = [detail]
    if nearest := compared or next(iter(likely), None):
        parts.append(f"Against {nearest.spec}: {nearest.comparison.differences()}")
    if likely:
        offers = (f"{candidate.spec} ({_percent(candidate.comparison.share)})" for candidate in likely)
        parts.append(f"Did you mean: {', '.join(offers)}? In brackets: keys and shapes that match.")
    else:
        parts.append("None comes near.")
    return ModelError(" ".join(parts), code=code, remedy=_remedy(likely))


def _remedy(likely: list[_Candidate]) -> str:
    if likely and likely[0].comparison.exact:
        return f"Set the architecture to {likely[0].spec}, or to auto."
    return (
        f"Set the architecture to one of {_known()}, {WAYS}, and save the "
        "weights under the keys of that architecture."
    )


def _known() -> str:
    """All of ours; those that differ in depth alone share one word, as a shell would write it."""
    depths: dict[str, list[str]] = {}
    for name in architectures.REGISTRY:
        depths.setdefault(DEPTH.sub("{}", name, count=1), []).extend(DEPTH.findall(name)[:1])
    return ", ".join(
        family.format(f"{{{','.join(of)}}}" if len(of) > 1 else "".join(of)) for family, of in depths.items()
    )


def _percent(share: float) -> str:
    # Rounded down: only an exact fit may say 100 %.
    return f"{int(share * 100)} %"


def _unknown(name: str) -> ModelError:
    known = (*architectures.REGISTRY, *vision.names())
    close = difflib.get_close_matches(name, known, n=SUGGESTIONS, cutoff=0.5)
    meant = f" Did you mean: {', '.join(close)}?" if close else ""
    remedy = f"Use auto, or one of {_known()}, {WAYS}."
    if name.startswith((vision.TORCHVISION, vision.TIMM)) and not vision.names():
        remedy = "Install torchvision and timm: pip install 'model-sanitizer[vision]'."
    return ModelError(
        f"{name!r} is no known architecture.{meant}", code="model.unknown_architecture", remedy=remedy
    )
