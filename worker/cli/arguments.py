"""What the offline commands take, and how what was typed becomes a request. Raises `OptionsError`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import ValidationError

from app.contract.curation import CurateOptions
from app.contract.frozen import Frozen
from app.contract.options import SanitizeOptions
from app.errors import OptionsError
from worker.device import place
from worker.pipelines.inputs import Request

Options = TypeVar("Options", bound=Frozen)

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


def request_of(
    command: str,
    model: Path,
    samples: Path,
    given: dict[str, Any],
    device: Literal["auto", "cpu", "cuda"],
    triggered: Path | None,
    triggered_target: int | None,
) -> Request:
    """What `command` is to do on this machine. Raises `OptionsError`."""
    if triggered_target is not None and triggered is None:
        raise OptionsError(
            "--triggered-target is given, and no triggered samples are.",
            code="options.triggered_target",
            remedy="Give the images with --triggered, or leave the target out.",
        )
    return Request(
        model=model,
        samples=samples,
        options=parse_options(given, command),
        placement=place(device),
        triggered=triggered,
        triggered_target=triggered_target,
        reproduce=reproduce(),
    )


def reproduce() -> str:
    """The command line that is running, to be typed again."""
    return shlex.join(["sanitizer", *sys.argv[1:]])


def parse_options(given: dict[str, Any], command: str = "sanitize") -> SanitizeOptions:
    """Options of `command` from what was typed. Raises `OptionsError` with the first thing that is wrong."""
    return _parsed(SanitizeOptions, given, command)


def parse_curate_options(given: dict[str, Any]) -> CurateOptions:
    """Options from what was typed. Raises `OptionsError` with the first thing that is wrong."""
    return _parsed(CurateOptions, given, "curate")


def _parsed(options: type[Options], given: dict[str, Any], command: str) -> Options:
    try:
        return options.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-").removeprefix("prune-")
        raise OptionsError(
            f"{name}: {first['msg']}.",
            remedy=f"Run sanitizer {command} --help for the bounds of every option.",
        ) from error
