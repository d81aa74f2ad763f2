"""The offline commands: the whole product on one machine, without the service.

Knows the terminal and the output folder; the science is in the pipelines.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from app.contract.findings import VerdictLabel
from app.contract.job import Stage
from app.contract.options import SanitizeOptions
from app.contract.report import Outcome, Report
from app.errors import ExitCode, OptionsError
from app.reports import as_json, html, wording
from worker.device import place
from worker.pipelines import deliver
from worker.pipelines.sanitize import Request
from worker.pipelines.sanitize import sanitize as run_sanitize

commands = typer.Typer()

RENDERERS = {
    deliver.REPORT_JSON: as_json.render,
    deliver.REPORT_HTML: html.render,
}


@commands.command()
def sanitize(
    model: Annotated[Path, typer.Argument(help="safetensors, or a zip-format PyTorch state dict")],
    samples: Annotated[Path, typer.Option(help="clean images: ImageFolder folder or zip, or .npz")],
    out: Annotated[Path, typer.Option(help="folder for the repaired model and its report")],
    architecture: Annotated[str, typer.Option(help="name, name:width=32, or auto")] = "auto",
    normalize: Annotated[
        str | None, typer.Option(help="preset or m1,m2,m3/s1,s2,s3; found when left out")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option(help="pixels; the architecture's own when left out")
    ] = None,
    triggered: Annotated[
        Path | None, typer.Option(help="images with a known trigger; they only evaluate")
    ] = None,
    triggered_target: Annotated[int | None, typer.Option(help="class index that the trigger aims at")] = None,
    accuracy_budget: Annotated[
        float | None, typer.Option(help="clean accuracy a repair may cost, e.g. 0.02")
    ] = None,
    fidelity: Annotated[
        Literal["service", "paper"], typer.Option(help="paper: RNP exactly as its authors' code")
    ] = "service",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="where to compute")] = "auto",
    seed: Annotated[int, typer.Option(help="same seed, same machine, same result")] = 0,
    *,
    as_json_only: Annotated[bool, typer.Option("--json", help="print the report alone, as JSON")] = False,
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
    request = Request(
        model=model,
        samples=samples,
        options=parse_options(given),
        placement=place(device),
        triggered=triggered,
        triggered_target=triggered_target,
        reproduce=shlex.join(["sanitizer", *sys.argv[1:]]),
    )
    console = Console(stderr=True)
    with Bars(console) as bars:
        result = run_sanitize(request, bars)
    report = deliver.deliver(result, out, RENDERERS)
    if as_json_only:
        typer.echo(as_json.render(report), nl=False)
    else:
        typer.echo(wording.summary(report))
        typer.echo(f"\nmodel   {out / report.model.name}\nreport  {out / deliver.REPORT_HTML}")
    raise typer.Exit(exit_code(report))


@commands.command()
def apply(
    changes: Annotated[Path, typer.Argument(help="changes.json of an earlier run")],
    model: Annotated[Path, typer.Argument(help="the model file that was sanitized")],
    out: Annotated[Path, typer.Argument(help="where the repaired file goes")],
) -> None:
    """Replay the edits of a repair on the original file, bit for bit."""
    made = deliver.apply(changes, model, out)
    typer.echo(f"{len(made.edits)} edits made; {out} is {made.result_digest}")


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


def exit_code(report: Report) -> ExitCode:
    """What a pipeline should do: go on, stop, or ask a person."""
    if report.outcome is Outcome.NOT_REPAIRED:
        return ExitCode.FINDINGS
    if report.outcome is Outcome.UNCHANGED and report.verdict.label is not VerdictLabel.CLEAN:
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK


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
            if metrics or done == total:  # not every threshold that is tried deserves a line
                self.console.print(f"{stage.value} {done}/{total} {text}".rstrip(), highlight=False)
            return
        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(stage.value, total=total, metrics="")
        self.progress.update(self.tasks[stage], completed=done, total=total, metrics=text)
