"""The `sanitizer` command: joins the commands of whatever is installed, and turns every error into a problem.

Knows the terminal; knows no tensor. The worker's commands come through the entry-point group `sanitizer.commands`, so
the app runs without them where torch is not installed.
"""

import sys
from importlib.metadata import entry_points
from typing import NoReturn

import typer
from typer.exceptions import TyperException
from typer.main import get_group

from app.cli import keys, limits, serve, submit, verify
from app.contract.problem import Problem
from app.errors import ExitCode, JobCanceled, OptionsError, OutputError, ResourceError, SanitizerError

GROUP = "sanitizer.commands"

app = typer.Typer(
    name="sanitizer",
    help="Find and remove backdoors in image classifiers, without ever seeing the trigger.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Find and remove backdoors in image classifiers, without ever seeing the trigger."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.add_typer(serve.commands)
app.add_typer(keys.commands)
app.add_typer(limits.commands)
app.add_typer(submit.commands)
app.add_typer(verify.commands)


def main() -> NoReturn:
    """Run one command; leave with an exit code of ours, never with a traceback."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of one command line; problems go to standard error."""
    try:
        join_worker(arguments)
        code = app(args=arguments, prog_name="sanitizer", standalone_mode=False)
    except KeyboardInterrupt:  # while modules were being imported; later typer catches it
        return fail(as_ours(typer.Abort()), arguments)
    except Exception as error:  # noqa: BLE001 - the last door: whatever comes must leave as a problem
        return fail(as_ours(error), arguments)
    if code == ExitCode.CANCELED:  # typer turns Ctrl-C into this code, without a word
        return fail(as_ours(typer.Abort()), arguments)
    return code if isinstance(code, int) else ExitCode.OK


def join_worker(arguments: list[str]) -> None:
    """Add the commands of the worker, which take seconds to import, unless the app's own answer.

    Raises `SanitizerError` when such a command is asked for and the worker's packages are not installed.
    """
    asked = next(iter(arguments), "--help")
    if asked in get_group(app).commands:
        return
    for found in entry_points(group=GROUP):
        try:
            app.add_typer(found.load())
        except ModuleNotFoundError as missing:
            if asked.startswith("-"):
                continue
            raise SanitizerError(
                f"{asked!r} needs the worker's packages, and {missing.name!r} is not installed.",
                code="install.incomplete",
                remedy="Run: pip install 'model-sanitizer[worker]'",
            ) from missing


def as_ours(error: Exception) -> SanitizerError:
    """The error of ours that stands for any error."""
    match error:
        case SanitizerError():
            return error
        case typer.Abort():
            return JobCanceled("Stopped from the keyboard; nothing was written.")
        case TyperException():
            return OptionsError(
                error.format_message(),
                code="options.usage",
                remedy="Run the command with --help to see what it takes.",
            )
        case MemoryError():
            return ResourceError("The machine has too little memory for this model and these samples.")
        case OSError():
            return OutputError(f"A file could not be read or written: {error}.")
        case _ if (
            "memory" in str(error).lower()
        ):  # torch raises a plain RuntimeError when an allocation fails
            return ResourceError("The machine has too little memory for this model and these samples.")
        case _:
            return SanitizerError(f"{type(error).__name__}: {error}")


def fail(error: SanitizerError, arguments: list[str]) -> int:
    """Print the problem, as JSON where the report would have been JSON, and give the exit code."""
    problem = Problem.of(error)
    if "--json" in arguments:
        typer.echo(problem.model_dump_json(exclude_none=True), err=True)
    else:
        typer.secho(f"error: {problem.detail} [{problem.code}]", err=True, fg=typer.colors.RED)
        typer.echo(f"remedy: {problem.remedy}", err=True)
    return error.exit_code
