"""The `sanitizer` command: joins the commands of whatever is installed, and turns every error into a problem.

Knows the terminal; knows no tensor. The worker's commands come through the entry-point group `sanitizer.commands`, so
the app runs without them where torch is not installed.
"""

import sys
from importlib.metadata import entry_points
from typing import NoReturn

import click
import typer

from app.contract.problem import Problem
from app.errors import ExitCode, JobCanceled, OutputError, ResourceError, SanitizerError

GROUP = "sanitizer.commands"

app = typer.Typer(
    name="sanitizer",
    help="Find and remove backdoors in image classifiers, without ever seeing the trigger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def root() -> None:
    """Find and remove backdoors in image classifiers, without ever seeing the trigger."""


def main() -> NoReturn:
    """Run one command; leave with an exit code of ours, never with a traceback."""
    for found in entry_points(group=GROUP):
        app.add_typer(found.load())
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of one command line; problems go to standard error."""
    try:
        code = app(args=arguments, prog_name="sanitizer", standalone_mode=False)
    except click.exceptions.Abort:
        return fail(JobCanceled("Stopped from the keyboard; nothing was written."), arguments)
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return fail(JobCanceled("Stopped from the keyboard; nothing was written."), arguments)
    except SanitizerError as error:
        return fail(error, arguments)
    except MemoryError:
        return fail(
            ResourceError("The machine has too little memory for this model and these samples."), arguments
        )
    except OSError as error:
        return fail(OutputError(f"A file could not be read or written: {error}."), arguments)
    return code if isinstance(code, int) else ExitCode.OK


def fail(error: SanitizerError, arguments: list[str]) -> int:
    """Print the problem, as JSON where the report would have been JSON, and give the exit code."""
    problem = Problem.of(error)
    if "--json" in arguments:
        typer.echo(problem.model_dump_json(exclude_none=True), err=True)
    else:
        typer.secho(f"error: {problem.detail} [{problem.code}]", err=True, fg=typer.colors.RED)
        typer.echo(f"remedy: {problem.remedy}", err=True)
    return error.exit_code
