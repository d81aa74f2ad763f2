"""`sanitizer confinement`: which layers of the cage hold on this machine."""

from typing import Annotated

import typer

from app.contract.confinement import Level
from worker.cage.proof import prove

commands = typer.Typer()


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
