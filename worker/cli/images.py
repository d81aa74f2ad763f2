"""`sanitizer screen` and `curate`: images without labels are looked at through a model."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from app.contract.curation import Strategy
from app.contract.options import Detector
from app.reports import html
from worker.cli.answer import say
from worker.cli.arguments import (
    Architecture,
    AsJson,
    Device,
    InputSize,
    Model,
    Normalize,
    Samples,
    Seed,
    parse_curate_options,
    reproduce,
    request_of,
)
from worker.cli.bars import Bars
from worker.device import place
from worker.pipelines import deliver
from worker.pipelines.curate import CurationRequest
from worker.pipelines.curate import curate as run_curate
from worker.pipelines.screen import screen as run_screen

commands = typer.Typer()


@commands.command()
def screen(
    model: Model,
    samples: Samples,
    suspects: Annotated[
        Path, typer.Option(help="images to look at: folder or zip, or .npz; no labels needed")
    ],
    out: Annotated[
        Path | None, typer.Option(help="folder for all scores, a page and a contact sheet")
    ] = None,
    architecture: Architecture = "auto",
    normalize: Normalize = None,
    input_size: InputSize = None,
    detector: Annotated[
        Detector,
        typer.Option(
            help="repair: MODEL is repaired first, and what that takes back of an answer counts; margin: several times "
            "faster, and blind for some triggers; five_metrics: from the model's labels alone"
        ),
    ] = "repair",
    grid: Annotated[
        Literal["reduced", "published"], typer.Option(help="what the five metrics try on each input")
    ] = "reduced",
    device: Device = "auto",
    seed: Seed = 0,
    *,
    as_json_only: AsJson = False,
) -> None:
    """Rank inputs of MODEL by how likely they carry a trigger, and flag them at stated false-alarm rates."""
    given: dict[str, Any] = {
        "architecture": architecture,
        "normalize": normalize,
        "input_size": input_size,
        "seed": seed,
        "screen": {"detector": detector, "grid": grid},
    }
    if out is not None:
        deliver.check_screening(out, model, samples, suspects)
    request = request_of("screen", model, samples, given, device, None, None)
    if detector == "five_metrics":
        each = request.options.screen.five_metrics.forwards
        typer.echo(f"{each:,} forward passes for each input and each clean image that calibrates", err=True)
    with Bars(Console(stderr=True)) as bars:
        found = run_screen(request, suspects, bars)
    if out is not None:
        deliver.deliver_screening(found, out, html.render_screening)
    say(found.report, f"report  {out / deliver.SCREENING_HTML}" if out else "", as_json_only=as_json_only)


@commands.command()
def curate(
    pool: Annotated[Path, typer.Argument(help="images without labels: folder or zip, or .npz")],
    model: Annotated[Path, typer.Option(help="safetensors, or a zip-format PyTorch state dict")],
    budget: Annotated[int, typer.Option(help="images that a person can label")],
    out: Annotated[
        Path | None, typer.Option(help="folder for the chosen images, as PNG, and what is said of them")
    ] = None,
    strategy: Annotated[
        Strategy | None, typer.Option(help="energy: what the model knows least (EADA); or random")
    ] = None,
    architecture: Architecture = "auto",
    normalize: Annotated[
        str | None, typer.Option(help="preset or m1,m2,m3/s1,s2,s3; guessed when left out")
    ] = None,
    input_size: InputSize = None,
    device: Device = "auto",
    seed: Seed = 0,
    *,
    as_json_only: AsJson = False,
) -> None:
    """Choose the images of POOL that a person should label, so that they can serve as clean samples."""
    given: dict[str, Any] = {
        "architecture": architecture,
        "normalize": normalize,
        "input_size": input_size,
        "budget": budget,
        "seed": seed,
    }
    if strategy is not None:
        given["strategy"] = strategy
    options = parse_curate_options(given)
    if out is not None:
        deliver.check_curation(out, model, pool)
    request = CurationRequest(model, pool, options, place(device), reproduce())
    with Bars(Console(stderr=True)) as bars:
        curated = run_curate(request, bars)
    if out is not None:
        deliver.deliver_curation(curated, out)
    say(curated.report, f"images  {out / deliver.IMAGES}" if out else "", as_json_only=as_json_only)
