"""What `sanitizer detect` costs, beside RNP's unlearning and recovering of the same net.

    python -m benchmarks.detect_cost [--model FILE] [--samples FILE] [--threads 1]

Once each, in one process: our unlearning and recovering of the images that fit; the plain loop of the published
algorithm (`plain_rnp`) on all images that are given, as in the paper, and on those that fit; the parts of a `detect`;
and the first look for ways into all classes, beside the same for one class, for as many steps. Seconds are of this
machine, FLOPs (multiplications and additions of convolutions and matrix products, counted, not estimated) of none.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from app.contract.job import Stage
from app.contract.options import SanitizeOptions
from benchmarks import plain_rnp
from worker.detectors.forms import HURRIED
from worker.detectors.trigger import recover_perturbations
from worker.device import place
from worker.pipelines.clock import Clock
from worker.pipelines.doubt import examine_twice
from worker.pipelines.hear import hear
from worker.pipelines.inputs import Loaded, Request, read_inputs
from worker.rnp.recover import recover
from worker.rnp.unlearn import unlearn
from worker.samples.interface import SampleSet

EXAMPLES = Path(__file__).parent.parent / "examples"
PUBLISHED_EPOCHS = 21, 20  # of unlearning at most, and of recovering
HEADINGS = ("what", "s", "GFLOP", "times ours in s", "in FLOP")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one piece of work."""

    name: str
    seconds: float
    flop: int


def costs(name: str, work: Callable[[], object]) -> Cost:
    """Do it once."""
    started = time.perf_counter()
    with FlopCounterMode(display=False) as counter:
        work()
    return Cost(name, time.perf_counter() - started, int(counter.get_total_flops()))


def ours(loaded: Loaded, options: SanitizeOptions) -> None:
    """One unlearning and recovering."""
    run = unlearn(loaded.suspect, loaded.parts.fit, options.unlearn, options.seed)
    recover(loaded.suspect.with_module(run.module), loaded.parts.fit, options.recover, options.seed)


def published(loaded: Loaded, images: SampleSet, seed: int) -> None:
    """The same, as published and plainly."""
    suspect, (unlearning, recovering) = loaded.suspect, PUBLISHED_EPOCHS
    data = plain_rnp.Data(images.images.contiguous(), images.labels, suspect.mean[0], suspect.std[0])
    net = suspect.copy().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # the stubs' lack
    plain_rnp.recover(plain_rnp.unlearn(net, data, unlearning, seed), data, recovering, seed)


def searched(loaded: Loaded, classes: range, options: SanitizeOptions) -> None:
    """The first look for ways into some classes, to its last step, so that none is spared by stopping early."""
    steps, images = options.perturbation.hurried.steps, options.perturbation.hurried.batch_size
    told = options.perturbation.model_copy(update={"steps": steps, "batch_size": images, "patience": steps})
    recover_perturbations(loaded.suspect, loaded.parts.fit, classes, told, options.seed, pace=HURRIED)


def everything(parts: tuple[SampleSet, ...]) -> SampleSet:
    """All images that were given."""
    return SampleSet(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        parts[0].class_names,
    )


def detected(loaded: Loaded, options: SanitizeOptions) -> list[Cost]:
    """The stages of one `detect`, and the second look where the first does not tell."""
    clock = Clock()
    torch.manual_seed(options.seed)
    with FlopCounterMode(display=False) as counter:
        hearing = hear(loaded.suspect, loaded.parts.fit, options, clock)
    whole = Cost("detect", clock.seconds["total_s"], int(counter.get_total_flops()))
    again = costs("and a second look", lambda: examine_twice(loaded, hearing, options))
    unlearned = clock.seconds[f"{Stage.UNLEARN.value}_s"]
    return [whole, Cost("of it, unlearning", unlearned, 0), again]


def main() -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=EXAMPLES / "backdoored-resnet18.safetensors")
    parser.add_argument("--samples", type=Path, default=EXAMPLES / "clean-500.zip")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = SanitizeOptions()
    loaded = read_inputs(
        Request(model=args.model, samples=args.samples, options=options, placement=place("cpu"))
    )
    parts, classes = loaded.parts, loaded.suspect.num_classes
    given = everything((parts.fit, parts.select, parts.report))
    yardstick = costs("ours, unlearn and recover once", lambda: ours(loaded, options))
    rows = [
        yardstick,
        costs(f"published, {len(parts.fit)} images", lambda: published(loaded, parts.fit, options.seed)),
        costs(f"published, all {len(given)} images", lambda: published(loaded, given, options.seed)),
        *detected(loaded, options),
        costs("ways into one class", lambda: searched(loaded, range(1), options)),
        costs(f"ways into {classes} classes", lambda: searched(loaded, range(classes), options)),
    ]
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for row in rows:
        times = f"{row.seconds / yardstick.seconds:.2f}"
        counted = f"{row.flop / 1e9:.0f} | {times} | {row.flop / yardstick.flop:.2f}"
        print(
            f"| {row.name} | {row.seconds:.1f} | {counted if row.flop else f'– | {times} | –'} |", flush=True
        )


if __name__ == "__main__":
    main()
