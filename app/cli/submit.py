"""`sanitizer submit` and `sanitizer watch`: a job of a service from the command line, for pipelines.

The exit code is that of the offline commands, so a pipeline goes on, stops, or asks a person.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from app import outputs
from app.client import Client, check_out
from app.contract.artifact import ArtifactKind
from app.contract.job import Job, JobKind
from app.errors import JobCanceled, OptionsError
from app.reports import as_json
from app.reports.exit_code import exit_code
from app.reports.summary import summary

commands = typer.Typer()

Url = Annotated[str, typer.Option(help="of the service", envvar="MODEL_SANITIZER_URL")]
Key = Annotated[
    str | None,
    typer.Option(help="of your tenant, where the service asks for one", envvar="MODEL_SANITIZER_KEY"),
]
Out = Annotated[Path | None, typer.Option(help="folder for the model, the report and the rest")]
AsJson = Annotated[bool, typer.Option("--json", help="print the report alone, as JSON")]


@commands.command()
def submit(
    model: Annotated[Path, typer.Argument(help="safetensors, or a zip-format PyTorch state dict")],
    samples: Annotated[Path, typer.Option(help="clean images: ImageFolder zip, or .npz")],
    url: Url = "http://127.0.0.1:8000",
    key: Key = None,
    kind: Annotated[
        JobKind, typer.Option(help="detect only looks; screen looks at --suspects")
    ] = JobKind.SANITIZE,
    suspects: Annotated[Path | None, typer.Option(help="images to screen: zip, or .npz; no labels")] = None,
    options: Annotated[str, typer.Option(help='as JSON, such as {"seed": 1}')] = "{}",
    out: Out = None,
    *,
    as_json_only: AsJson = False,
) -> None:
    """Upload MODEL and its samples to a service, wait for the job, and fetch what it made."""
    given = _options(options)
    inputs = {ArtifactKind.MODEL: model, ArtifactKind.SAMPLES: samples}
    if suspects is not None:
        inputs[ArtifactKind.SUSPECTS] = suspects
    if why := kind.objection(inputs):
        raise OptionsError(f"{why}.", remedy="Give --suspects with --kind screen, and only there.")
    if out is not None:
        check_out(out, kind, inputs)
    client = Client(url, key)
    stored = {part: client.upload(part, path) for part, path in inputs.items()}
    job = client.submit(kind, stored, given)
    with _left_alone(job.id):
        told = _teller()
        told(job)  # its id, before anybody waits for anything
        _follow(client, job.id, out, told, as_json_only=as_json_only)


@commands.command()
def watch(
    job: Annotated[str, typer.Argument(help="id of the job")],
    url: Url = "http://127.0.0.1:8000",
    key: Key = None,
    out: Out = None,
    *,
    as_json_only: AsJson = False,
) -> None:
    """Wait for a JOB that was submitted before, and fetch what it made."""
    if out is not None:
        outputs.check(out)  # the rest when the job is known
    with _left_alone(job):
        _follow(Client(url, key), job, out, _teller(), as_json_only=as_json_only)


def _teller() -> Callable[[Job], None]:
    said: list[str] = []

    def told(job: Job) -> None:
        line = f"{job.id} {job.state.value} {job.stage.value if job.stage else ''}".rstrip()
        if line not in said[-1:]:
            said.append(line)
            typer.echo(f"{line} {job.fraction:.0%}", err=True)

    return told


@contextmanager
def _left_alone(job_id: str) -> Iterator[None]:
    """Whoever stops waiting, before the end or after it, is told that the service has the job still."""
    try:
        yield
    except KeyboardInterrupt:
        raise JobCanceled(
            f"Nobody waits for job {job_id} any more; the service goes on with it, and keeps what it makes.",
            code="client.interrupted",
            remedy=f"Wait again: sanitizer watch {job_id} --out FOLDER. Or end it: POST /v1/jobs/{job_id}:cancel.",
        ) from None


def _follow(
    client: Client, job_id: str, out: Path | None, told: Callable[[Job], None], *, as_json_only: bool
) -> None:
    job = client.wait(job_id, told)
    report = client.report(job_id)
    if out is not None:
        client.download(job, out)
    typer.echo(as_json.render(report) if as_json_only else summary(report), nl=not as_json_only)
    raise typer.Exit(exit_code(report))


def _options(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise OptionsError(
            f"--options is no JSON: {error}.", remedy="""Write --options '{"seed": 1}'."""
        ) from error
    if not isinstance(given, dict):
        raise OptionsError("--options is no object.", remedy="""Write --options '{"seed": 1}'.""")
    return given
