"""How pixels become the input of a model: named presets, stated numbers, or the preset that fits the clean samples.

Knows tensors and pixels; knows nothing of files.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.contract.curation import Guess, Measure
from app.contract.report import Normalisation
from app.errors import OptionsError
from worker.remembered import mismatch, remembering

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean, std of pixels in [0, 1]

PRESETS: dict[str, Statistics] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    # The official RNP code and kuangliu/pytorch-cifar average the deviations of single images.
    "cifar10_rnp": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "none": ((0.0,), (1.0,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
    # BackdoorBench, get_dataset_normalization:
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny_imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
    "gtsrb": ((0.0,), (1.0,)),  # there as here, the same as none
}
# What a few hundred images can tell apart. cifar100 and tiny_imagenet are too near to cifar10: they must be named.
TRIED = ("cifar10", "cifar10_rnp", "none", "imagenet", "half")
# What certainty can tell apart without labels, where BatchNorm remembers nothing. The other presets are too near to
# cifar10: of it, cifar10_rnp and imagenet the lowest entropy named the right one for five of twelve nets, while none
# and half stood clearly apart.
UNLABELLED = ("none", "half")
SMALL, LARGE = "cifar10", "imagenet"  # stand for those others
LARGER = 64  # pixels; the images of CIFAR, GTSRB and Tiny ImageNet are no larger
CUSTOM = "custom"
NONE = "none"
ENOUGH = 256  # images
BATCH = 128


def parse(text: str, channels: int) -> Normalisation:
    """A preset by name, or `m1,m2,m3/s1,s2,s3`; one number stands for every channel."""
    name = text.strip()
    if name in PRESETS:
        statistics = _fitted(PRESETS[name], channels)
        if statistics is None:
            raise _refusal(f"{name} is for three channels or one, and the model takes {channels}.")
    else:
        name, statistics = CUSTOM, _stated(name, channels)
    return _named(name, statistics)


def choose(module: nn.Module, images: Tensor, labels: Tensor) -> Normalisation:
    """The preset with which `module`, in eval mode, gets most of the clean samples right; ties go to the lower loss.

    Accuracies within one standard error of the best count as ties: neighbouring presets differ by two or three
    images, at random, while the loss tells them apart.
    """
    sample = torch.linspace(0, len(images) - 1, min(len(images), ENOUGH)).round().long()
    fitted = {name: _fitted(PRESETS[name], images.shape[1]) for name in TRIED}
    presets = {name: _named(name, statistics) for name, statistics in fitted.items() if statistics}
    scores = {
        name: _score(module, images[sample], labels[sample], preset) for name, preset in presets.items()
    }
    tried = {name: accuracy for name, (accuracy, _) in scores.items()}
    best = max(tried.values())
    error = math.sqrt(best * (1 - best) / len(sample))
    ties = [name for name in tried if tried[name] >= best - error]
    chosen = min(ties, key=lambda name: scores[name][1])
    return presets[chosen].model_copy(update={"found": True, "tried": tried})


def guess(module: nn.Module, images: Tensor) -> tuple[Normalisation, Guess]:
    """The preset that fits `module`, in eval mode, best, without labels, and all that were tried.

    The one with which images are nearest to what the module's BatchNorms remember: on seventeen nets the true one, by
    a factor of 1.3 to 7 before the next. Where they remember nothing, the one with which the module is most certain
    (lowest mean entropy, nats) of presets as different as `none`, `half` and, for images of other data sets' size,
    `cifar10` or `imagenet`. A preset that gives no finite number is left out.
    """
    sample = images[torch.linspace(0, len(images) - 1, min(len(images), ENOUGH)).round().long()]
    by: Measure = "statistics" if remembering(module) else "certainty"
    names = TRIED if by == "statistics" else (LARGE if images.shape[2] > LARGER else SMALL, *UNLABELLED)
    fitted = {name: _fitted(PRESETS[name], images.shape[1]) for name in names}
    presets = {name: _named(name, statistics) for name, statistics in fitted.items() if statistics}
    far = _mismatch if by == "statistics" else _entropy
    tried = {name: far(module, sample, preset) for name, preset in presets.items()}
    chosen = min(tried, key=lambda name: tried[name])
    told = {name: value for name, value in tried.items() if math.isfinite(value)}
    return presets[chosen].model_copy(update={"found": True}), Guess(by=by, tried=told)


def apply(images: Tensor, normalisation: Normalisation) -> Tensor:
    """uint8 (n, c, h, w) -> float32, normalised."""
    mean = torch.tensor(normalisation.mean, device=images.device)[:, None, None]
    std = torch.tensor(normalisation.std, device=images.device)[:, None, None]
    return (images / 255).sub_(mean).div_(std)


def _named(name: str, statistics: Statistics) -> Normalisation:
    return Normalisation(name=name, mean=statistics[0], std=statistics[1], found=False)


@torch.no_grad()
def _logits(module: nn.Module, images: Tensor, normalisation: Normalisation) -> Tensor:
    device = next(module.parameters()).device
    return torch.cat([module(apply(part.to(device), normalisation)).cpu() for part in images.split(BATCH)])


def _mismatch(module: nn.Module, images: Tensor, normalisation: Normalisation) -> float:
    """Of the images and what is remembered; infinite where it is not finite."""
    device = next(module.parameters()).device
    parts = (apply(part.to(device), normalisation) for part in images.split(BATCH))
    apart = mismatch(module, parts)
    return math.inf if apart is None or not math.isfinite(apart) else apart


def _entropy(module: nn.Module, images: Tensor, normalisation: Normalisation) -> float:
    """Mean of the predictions, nats; infinite where one is not finite."""
    logs = _logits(module, images, normalisation).double().log_softmax(1)
    entropy = -(logs.exp() * logs).sum(1).mean().item()
    return entropy if math.isfinite(entropy) else math.inf


def _score(
    module: nn.Module, images: Tensor, labels: Tensor, normalisation: Normalisation
) -> tuple[float, float]:
    """Accuracy and loss."""
    logits = _logits(module, images, normalisation)
    loss = F.cross_entropy(logits, labels.cpu()).item()
    accuracy = (logits.argmax(1) == labels.cpu()).double().mean().item()
    return accuracy, math.inf if math.isnan(loss) else loss


def _fitted(statistics: Statistics, channels: int) -> Statistics | None:
    """The same statistics for another number of channels, where that makes sense."""
    mean, std = statistics
    if len(mean) == channels:
        return mean, std
    if len(mean) == 1:
        return mean * channels, std * channels
    if channels == 1:  # grey is about the average of the colours
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    return None


def _stated(text: str, channels: int) -> Statistics:
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
    except ValueError:
        raise _refusal(f"{text!r} is neither a preset nor of the form m1,m2,m3/s1,s2,s3.") from None
    if {len(mean), len(std)} - {1, channels}:
        raise _refusal(f"{text!r} needs {channels} means and {channels} deviations, or one of each.")
    if not all(0 <= value <= 1 for value in mean):
        raise _refusal(
            f"The means of {text!r} must lie in [0, 1], as pixels do; divide those of 0 to 255 by 255."
        )
    if not all(0 < value < math.inf for value in std):
        raise _refusal(f"The deviations of {text!r} must be positive and finite.")
    return mean * (channels // len(mean)), std * (channels // len(std))


def _refusal(detail: str) -> OptionsError:
    return OptionsError(
        detail,
        code="options.normalize",
        remedy=f"Use one of {', '.join(PRESETS)}, or numbers such as 0.5,0.5,0.5/0.25,0.25,0.25, "
        "or leave it out to have it found on the clean samples.",
    )
