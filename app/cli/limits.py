"""`sanitizer limits`: what is read of an uploaded file at most."""

from typing import Annotated

import typer

from app.contract.limits import input_limits

commands = typer.Typer()


@commands.command()
def limits(
    *, as_json_only: Annotated[bool, typer.Option("--json", help="print them as JSON")] = False
) -> None:
    """Print the limits of model files and samples."""
    if as_json_only:
        typer.echo(input_limits().model_dump_json(indent=2))
        return
    for kind, group in input_limits():
        for name, field in type(group).model_fields.items():
            typer.echo(
                f"{kind + '.' + name:27} {getattr(group, name):>18,}  {field.description or ''}".rstrip()
            )
