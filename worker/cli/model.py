"""`sanitizer sanitize`, `detect` and `apply`: a model is looked at, repaired, or repaired again as before."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from app.attestation import evidence
from app.attestation.signing import PrivateKey, read_private_key
from app.reports import as_json, html
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
    SigningKey,
    Triggered,
    TriggeredTarget,
    request_of,
)
from worker.cli.bars import Bars
from worker.pipelines import deliver
from worker.pipelines.detect import detect as run_detect
from worker.pipelines.sanitize import sanitize as run_sanitize

commands = typer.Typer()

RENDERERS = {
    deliver.REPORT_JSON: as_json.render,
    deliver.REPORT_HTML: html.render,
}


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
    deliver.check(out, model, samples, triggered, signing_key)
    key = _key(signing_key)
    request = request_of("sanitize", model, samples, given, device, triggered, triggered_target)
    with Bars(Console(stderr=True)) as bars:
        result = run_sanitize(request, bars)
    report = deliver.deliver(result, out, RENDERERS, partial(evidence.make, key=key))
    where = f"model   {out / report.model.name}\nreport  {out / deliver.REPORT_HTML}"
    say(report, where, as_json_only=as_json_only)


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
        deliver.check_report(out, model, samples, triggered, signing_key)
    key = _key(signing_key)
    request = request_of("detect", model, samples, given, device, triggered, triggered_target)
    with Bars(Console(stderr=True)) as bars:
        report = run_detect(request, bars)
    if out is not None:
        deliver.deliver_report(report, out, RENDERERS, partial(evidence.make, key=key))
    say(report, f"report  {out / deliver.REPORT_HTML}" if out else "", as_json_only=as_json_only)


@commands.command()
def apply(
    changes: Annotated[Path, typer.Argument(help="changes.json of an earlier run")],
    model: Annotated[Path, typer.Argument(help="the model file that was sanitized")],
    out: Annotated[Path, typer.Argument(help="where the repaired file goes")],
) -> None:
    """Replay the edits of a repair on the original file, bit for bit."""
    made = deliver.apply(changes, model, out)
    typer.echo(f"{len(made)} edits made; {out} is {made.result_digest}")


def _key(path: Path | None) -> PrivateKey | None:
    """Read before any work is done, so that a wrong key costs nothing."""
    return None if path is None else read_private_key(path)
