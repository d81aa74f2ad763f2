"""The offline commands: the whole product on one machine, without the service.

Knows the terminal and the output folder; the science is in the pipelines.
"""

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from app.attestation import evidence
from app.attestation.signing import PrivateKey, read_private_key
from app.contract.confinement import Level
from app.contract.job import Stage
from app.contract.options import SanitizeOptions
from app.contract.report import Report
from app.contract.screening import Screening
from app.errors import OptionsError
from app.reports import as_json, html
from app.reports.exit_code import exit_code
from app.reports.summary import summary
from worker.cage.proof import prove
from worker.device import place
from worker.pipelines import deliver
from worker.pipelines.detect import detect as run_detect
from worker.pipelines.inputs import Request
from worker.pipelines.sanitize import sanitize as run_sanitize
from worker.pipelines.screen import screen as run_screen

LINES = 40  # of one stage, where the output is piped
commands = typer.Typer()

RENDERERS = {
    deliver.REPORT_JSON: as_json.render,
    deliver.REPORT_HTML: html.render,
}


Model = Annotated[Path, typer.Argument(help="safetensors, or a zip-format PyTorch state dict")]
Samples = Annotated[Path, typer.Option(help="clean images: ImageFolder folder or zip, or .npz")]
Architecture = Annotated[str, typer.Option(help="name, name:width=32, or auto")]
Normalize = Annotated[str | None, typer.Option(help="preset or m1,m2,m3/s1,s2,s3; found when left out")]
InputSize = Annotated[int | None, typer.Option(help="pixels; the architecture's own when left out")]
Triggered = Annotated[Path | None, typer.Option(help="images with a known trigger; they only evaluate")]
TriggeredTarget = Annotated[int | None, typer.Option(help="class index that the trigger aims at")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="where to compute")]
SigningKey = Annotated[
    Path | None, typer.Option(help="PEM file of an ECDSA P-256 key that signs the evidence")
]
Seed = Annotated[int, typer.Option(help="same seed, same machine, same result")]
AsJson = Annotated[bool, typer.Option("--json", help="print the report alone, as JSON")]


@commands.command()
def sanitize(
    model: Model,
    samples: Samples,
    out: Annotated[Path, typer.Option(help="folder for the repaired model and its report")],
    architecture: Architecture = "auto",
    normalize: Normalize = None,
    input_size: InputSize = None,
    triggered: Triggered = None,
    triggered_target: TriggeredTarget = None,
    accuracy_budget: Annotated[
        float | None, typer.Option(help="clean accuracy a repair may cost, e.g. 0.02")
    ] = None,
    fidelity: Annotated[
        Literal["service", "paper"], typer.Option(help="paper: RNP exactly as its authors' code")
    ] = "service",
    device: Device = "auto",
    seed: Seed = 0,
    signing_key: SigningKey = None,
    *,
    as_json_only: AsJson = False,
) -> None:
    """Find a backdoor in MODEL, repair it, verify the repair, and write model and report to --out."""
    given: dict[str, Any] = {
        "architecture": architecture,
        "normalize": normalize,
        "input_size": input_size,
        "fidelity": fidelity,
        "seed": seed,
    }
    if accuracy_budget is not None:
        given["prune"] = {"accuracy_budget": accuracy_budget}
    deliver.check(out, model)
    key = _key(signing_key)
    request = _request(model, samples, given, device, triggered, triggered_target)
    with Bars(Console(stderr=True)) as bars:
        result = run_sanitize(request, bars)
    report = deliver.deliver(result, out, RENDERERS, partial(evidence.make, key=key))
    where = f"model   {out / report.model.name}\nreport  {out / deliver.REPORT_HTML}"
    _say(report, where, as_json_only=as_json_only)


@commands.command()
def detect(
    model: Model,
    samples: Samples,
    out: Annotated[Path | None, typer.Option(help="folder for the report; none is written without")] = None,
    architecture: Architecture = "auto",
    normalize: Normalize = None,
    input_size: InputSize = None,
    triggered: Triggered = None,
    triggered_target: TriggeredTarget = None,
    device: Device = "auto",
    seed: Seed = 0,
    signing_key: SigningKey = None,
    *,
    as_json_only: AsJson = False,
) -> None:
    """Look for a backdoor in MODEL, and change nothing."""
    given: dict[str, Any] = {
        "architecture": architecture,
        "normalize": normalize,
        "input_size": input_size,
        "seed": seed,
    }
    if out is not None:
        deliver.check(out, model)
    key = _key(signing_key)
    request = _request(model, samples, given, device, triggered, triggered_target)
    with Bars(Console(stderr=True)) as bars:
        report = run_detect(request, bars)
    if out is not None:
        deliver.deliver_report(report, out, RENDERERS, partial(evidence.make, key=key))
    _say(report, f"report  {out / deliver.REPORT_HTML}" if out else "", as_json_only=as_json_only)


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
        Literal["margin", "five_metrics"], typer.Option(help="five_metrics: from the model's labels alone")
    ] = "margin",
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
        deliver.check(out, model)
    request = _request(model, samples, given, device, None, None)
    if detector == "five_metrics":
        each = request.options.screen.five_metrics.forwards
        typer.echo(f"{each:,} forward passes for each input and each clean image that calibrates", err=True)
    with Bars(Console(stderr=True)) as bars:
        found = run_screen(request, suspects, bars)
    if out is not None:
        deliver.deliver_screening(found, out, html.render_screening)
    _say(found.report, f"report  {out / deliver.SCREENING_HTML}" if out else "", as_json_only=as_json_only)


@commands.command()
def apply(
    changes: Annotated[Path, typer.Argument(help="changes.json of an earlier run")],
    model: Annotated[Path, typer.Argument(help="the model file that was sanitized")],
    out: Annotated[Path, typer.Argument(help="where the repaired file goes")],
) -> None:
    """Replay the edits of a repair on the original file, bit for bit."""
    made = deliver.apply(changes, model, out)
    typer.echo(f"{len(made)} edits made; {out} is {made.result_digest}")


@commands.command()
def confinement(
    required: Annotated[Level, typer.Option(help="the level that must hold")] = Level.FULL,
    *,
    as_json_only: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Confine a process for trial, try what it must not do, and print which layers hold on this machine."""
    found = prove(required)
    if as_json_only:
        typer.echo(found.model_dump_json(indent=2))
        return
    for layer in found.layers:
        state = "holds" if layer.enforced else "MISSING"
        typer.echo(f"{layer.name.value:13} {state:8} {layer.detail}; {len(layer.denied)} attempts denied")
    typer.echo(f"level         {found.level.value}")


def _request(
    model: Path,
    samples: Path,
    given: dict[str, Any],
    device: Literal["auto", "cpu", "cuda"],
    triggered: Path | None,
    triggered_target: int | None,
) -> Request:
    return Request(
        model=model,
        samples=samples,
        options=parse_options(given),
        placement=place(device),
        triggered=triggered,
        triggered_target=triggered_target,
        reproduce=shlex.join(["sanitizer", *sys.argv[1:]]),
    )


def _key(path: Path | None) -> PrivateKey | None:
    """Read before any work is done, so that a wrong key costs nothing."""
    return None if path is None else read_private_key(path)


def _say(report: Report | Screening, where: str, *, as_json_only: bool) -> None:
    """Print what was found, and leave with the exit code that says it."""
    if as_json_only:
        typer.echo(as_json.render(report), nl=False)
    else:
        typer.echo("\n\n".join(part for part in (summary(report), where) if part))
    raise typer.Exit(exit_code(report))


def parse_options(given: dict[str, Any]) -> SanitizeOptions:
    """Options from what was typed. Raises `OptionsError` with the first thing that is wrong."""
    try:
        return SanitizeOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-").removeprefix("prune-")
        raise OptionsError(
            f"{name}: {first['msg']}.", remedy="Run sanitizer sanitize --help for the bounds of every option."
        ) from error


class Bars:
    """Progress bars on a terminal, a line per stage where the output is piped."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.tasks: dict[Stage, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Bars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, stage: Stage, done: int, total: int, **metrics: float) -> None:
        """Show it."""
        text = " ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        if not self.console.is_terminal:
            every = max(1, total // LINES)  # not every step of a long stage deserves a line
            if done == total or (metrics and done % every == 0):
                self.console.print(f"{stage.value} {done}/{total} {text}".rstrip(), highlight=False)
            return
        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(stage.value, total=total, metrics="")
        self.progress.update(self.tasks[stage], completed=done, total=total, metrics=text)
