"""What a command says at its end: a summary or JSON, and an exit code."""

import typer

from app.contract.curation import Curation
from app.contract.report import Report
from app.contract.screening import Screening
from app.reports import as_json
from app.reports.exit_code import exit_code
from app.reports.summary import summary


def say(report: Report | Screening | Curation, where: str, *, as_json_only: bool) -> None:
    """Print what was found, and leave with the exit code that says it."""
    if as_json_only:
        typer.echo(as_json.render(report), nl=False)
    else:
        typer.echo("\n\n".join(part for part in (summary(report), where) if part))
    raise typer.Exit(exit_code(report))
