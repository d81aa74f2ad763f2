"""How fast our RNP is beside the plain one, and beside what the machine could do.

    python benchmarks/rnp_speed.py [--model FILE|random] [--samples FILE] [--epochs 1] [--repeats 5] [--threads N]

Both do the same work in one process, on the same net and the same images: one epoch of unlearning at a time, so
that no
stop rule shortens it, with the evaluation that follows an epoch; as many epochs of recovering; and the walk over
every third of the published thresholds, with masks so spread that each prunes something new. They take turns, and the
first of a turn changes. Rates are those of the least disturbed repeat; the ratio of the medians stands beside their
ratio. A busy machine gets fewer repeats; there, `--threads 1` disturbs least. FLOPs are counted, not estimated:
multiplications and additions of convolutions and matrix products.
`--model random` is a ResNet-18 of full width that was never trained; time does not depend on what a net knows.
"""

import argparse
import importlib.util
import platform
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from app.contract.options import PruneOptions, SanitizeOptions
from worker.classifier import Classifier, views
from worker.device import Placement, place, seconds
from worker.formats import normalisation
from worker.formats.architectures.resnet import BasicBlock, ResNet
from worker.formats.load import load
from worker.repair.evidence import Remaining
from worker.repair.operating_point import Rungs, choose
from worker.rnp.masks import FilterMasks, ones
from worker.rnp.recover import recover
from worker.rnp.unlearn import unlearn
from worker.samples.interface import CleanSplit
from worker.samples.read import read_samples
from worker.samples.split import split

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
RANDOM = "random"
CIFAR = (3, 32, 32)
PEAK_SIZE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product shows the peak
FORMATS = (torch.float32, torch.bfloat16)
STAGE_SECONDS = 40  # no repeat of a stage begins later
HEADINGS = (
    *(
        "stage",
        "images",
        "plain img/s",
        "ours img/s",
        "ours/plain (medians)",
        "plain MFLOP/img",
        "ours MFLOP/img",
    ),
    *("plain GFLOP/s", "ours GFLOP/s", "plain of peak", "ours of peak"),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """The same work, done twice: `images` pass through the net in each."""

    name: str
    images: int
    plain: Callable[[], object]
    ours: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a stage, or all of them, took: seconds of every repeat, least first, and FLOPs of one."""

    name: str
    images: int
    plain_s: tuple[float, ...]
    ours_s: tuple[float, ...]
    plain_flop: int
    ours_flop: int


def neighbour(name: str) -> ModuleType:
    """A file beside this one, as a module."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def subject(model: str, samples: Path, placement: Placement) -> tuple[Classifier, CleanSplit]:
    """The net, placed, and the divided samples."""
    module: nn.Module
    if model == RANDOM:
        torch.manual_seed(0)
        module, classes, shape = ResNet(BasicBlock, (2, 2, 2, 2), 10, width=64), 10, CIFAR
    else:
        loaded = load(Path(model))
        module, classes, shape = loaded.module, loaded.num_classes, loaded.input_shape
    clean, _ = read_samples(samples, classes, shape)
    options = SanitizeOptions().split
    pixels = normalisation.parse("cifar10", 3)
    mean, std = (
        torch.tensor(v, device=placement.device).view(1, -1, 1, 1) for v in (pixels.mean, pixels.std)
    )
    suspect = Classifier(placement.take(module), classes, mean, std, placement)
    return suspect, split(clean, options.fit, options.select, seed=0)


def stages(suspect: Classifier, parts: CleanSplit, epochs: int) -> list[Stage]:
    """Unlearning, recovering and choosing, plain and ours."""
    plain_rnp = neighbour("plain_rnp")
    thresholds = plain_rnp.THRESHOLDS[::3]
    net = replace(suspect.placement, memory_format=torch.contiguous_format).take(deepcopy(suspect.module))
    seen = list(views(parts.select))  # ours measures each image in several views; so must the plain walk
    fit, select = (
        plain_rnp.Data(images.contiguous(), labels, suspect.mean[0], suspect.std[0])
        for images, labels in (
            (parts.fit.images, parts.fit.labels),
            (torch.cat(seen), parts.select.labels.repeat(len(seen))),
        )
    )
    options = SanitizeOptions(unlearn={"max_epochs": 1}, recover={"epochs": epochs})
    masks = spread(suspect.module)
    plain_masks = {name.removesuffix(".weight"): mask for name, mask in masks.values.items()}
    # Wide budgets: no candidate ends the walk early.
    walk = PruneOptions(accuracy_budget=0.5, class_budget=1, threshold_step=0.15)

    def our_choice() -> None:
        rungs = Rungs(lambda _: Remaining(0.0, suppressed=True, gone=True), None)
        point = choose(suspect, masks, parts.select, walk, rungs)
        assert len(point.considered) == len(thresholds)

    trained = epochs * len(parts.fit)
    return [
        Stage(
            "unlearn",
            2 * trained,
            lambda: [plain_rnp.unlearn(net, fit, 1, seed) for seed in range(epochs)],
            lambda: [unlearn(suspect, parts.fit, options.unlearn, seed) for seed in range(epochs)],
        ),
        Stage(
            "recover",
            trained,
            lambda: plain_rnp.recover(net, fit, epochs, 0),
            lambda: recover(suspect, parts.fit, options.recover, 0),
        ),
        Stage(
            "choose",
            (len(thresholds) + 1) * len(select.labels),
            lambda: plain_rnp.sweep(net, plain_masks, select, thresholds),
            our_choice,
        ),
    ]


def spread(module: nn.Module) -> FilterMasks:
    """Masks at equal distances from 0 to 1, shuffled over the net."""
    filters = {name: len(mask) for name, mask in ones(module).items()}
    total = sum(filters.values())
    values = torch.linspace(0, 1, total)[torch.randperm(total, generator=torch.Generator().manual_seed(0))]
    return FilterMasks(dict(zip(filters, values.split(list(filters.values())), strict=True)))


def measure(stage: Stage, repeats: int) -> Measured:
    """Count each once, which also warms up; then let them take turns."""
    finish = time.perf_counter() + STAGE_SECONDS
    flop = {name: count(work) for name, work in (("plain", stage.plain), ("ours", stage.ours))}
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    for repeat in range(repeats):
        if repeat > 0 and time.perf_counter() > finish:
            break
        turn = [("plain", stage.plain), ("ours", stage.ours)]
        for name, work in turn if repeat % 2 == 0 else reversed(turn):
            taken[name].append(clocked(work))
    plain_s, ours_s = (tuple(sorted(times)) for times in taken.values())
    return Measured(stage.name, stage.images, plain_s, ours_s, flop["plain"], flop["ours"])


def count(work: Callable[[], object]) -> int:
    """FLOPs of one run."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def clocked(work: Callable[[], object]) -> float:
    """Seconds of one run; waits for the device."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def total(measured: list[Measured]) -> Measured:
    """All stages together, the least disturbed repeats of each first."""
    return Measured(
        "all",
        sum(m.images for m in measured),
        tuple(map(sum, zip(*(m.plain_s for m in measured), strict=False))),
        tuple(map(sum, zip(*(m.ours_s for m in measured), strict=False))),
        sum(m.plain_flop for m in measured),
        sum(m.ours_flop for m in measured),
    )


def peak(device: torch.device, precision: torch.dtype) -> float:
    """FLOP/s of a large matrix product, the best of several."""
    size = PEAK_SIZE[device.type]
    a = torch.ones(size, size, device=device, dtype=precision)

    def product() -> Tensor:
        return a @ a

    return 2 * size**3 / seconds(product)[0]


def row(measured: Measured, best_peak: float) -> str:
    """One line of the table."""
    plain_s, ours_s = measured.plain_s[0], measured.ours_s[0]
    cells = (
        measured.name,
        measured.images,
        f"{measured.images / plain_s:.0f}",
        f"{measured.images / ours_s:.0f}",
        f"{plain_s / ours_s:.2f} ({median(measured.plain_s) / median(measured.ours_s):.2f})",
        f"{measured.plain_flop / measured.images / 1e6:.1f}",
        f"{measured.ours_flop / measured.images / 1e6:.1f}",
        f"{measured.plain_flop / plain_s / 1e9:.1f}",
        f"{measured.ours_flop / ours_s / 1e9:.1f}",
        f"{measured.plain_flop / plain_s / best_peak:.0%}",
        f"{measured.ours_flop / ours_s / best_peak:.0%}",
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def environment(device: torch.device) -> str:
    """The machine and the library, in one line."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        cpuinfo = Path("/proc/cpuinfo")
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else platform.processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.system()}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=str(EXAMPLES / "backdoored-resnet18.safetensors"))
    parser.add_argument("--samples", type=Path, default=EXAMPLES / "clean-500.npz")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    placement = place(given.device)
    suspect, parts = subject(given.model, given.samples, placement)
    before = [peak(placement.device, precision) for precision in FORMATS]
    measured = [measure(stage, given.repeats) for stage in stages(suspect, parts, given.epochs)]
    after = [peak(placement.device, precision) for precision in FORMATS]
    peaks = [max(pair) for pair in zip(before, after, strict=True)]  # the less disturbed of two moments
    print(f"Machine: {environment(placement.device)}")
    print(f"Ours ran in {placement.precision}, {placement.memory_format}; plain in float32, contiguous.")
    print(f"Net: {Path(given.model).name}; {len(parts.fit)} images fit, {len(parts.select)} select; ", end="")
    print(f"{given.epochs} epoch(s), up to {given.repeats} repeats.")
    print("Peak: " + ", ".join(f"{p} {v / 1e9:.1f} GFLOP/s" for p, v in zip(FORMATS, peaks, strict=True)))
    print("\n| " + " | ".join(HEADINGS) + " |\n|" + "---|" * len(HEADINGS))
    for line in (*measured, total(measured)):
        print(row(line, max(peaks)))
    batch = parts.fit.images[: SanitizeOptions().unlearn.batch_size]
    alone = neighbour("rnp_floor").layers_alone(suspect, batch)
    ours = measured[0].ours_flop / measured[0].ours_s[0]
    print(
        f"\nThe layers of the net alone: {alone / 1e9:.1f} GFLOP/s, {alone / max(peaks):.0%} of peak. ",
        end="",
    )
    print(f"Unlearning, evaluation included, reaches {ours / alone:.0%} of that.")


if __name__ == "__main__":
    main()
