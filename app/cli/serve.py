"""`sanitizer serve`: the API and a worker as two processes on one home; `sanitizer migrate`: the ledger's tables.

Knows processes and signals; both are started by name, so this never imports what they are made of.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.errors import ResourceError, SettingsError
from app.ledger import schema
from app.ledger.database import Database
from app.settings import SIGNING_KEY, Settings, environment, is_loopback, read_settings

commands = typer.Typer()

TICK_S = 0.2
PAUSE_S = 1.0  # before a process is started again
SETTLED_S = 10.0  # a process that gives up sooner never got to work, so starting it again would not help
PR_SET_PDEATHSIG = 1
Part = Literal["api", "worker"]


@commands.command()
def serve(
    home: Annotated[Path | None, typer.Option(help="folder of ledger, blobs and bell; ~/.sanitizer")] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on; 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 8000")] = None,
    only: Annotated[Part | None, typer.Option(help="start one part; the other runs elsewhere")] = None,
) -> None:
    """Serve the HTTP API and run its jobs on this machine. Ctrl-C drains."""
    given = {"home": home, "host": host, "port": port}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    parts: Sequence[Part] = [only] if only else ["api", "worker"]
    if "worker" in parts and find_spec("torch") is None:
        raise SettingsError(
            "The worker is not installed.",
            code="settings.no_worker",
            remedy="Run pip install 'model-sanitizer[worker]', or serve --only api and start workers elsewhere.",
        )
    _upgrade(settings)
    if "api" in parts:
        typer.secho(_warning(settings), fg=typer.colors.YELLOW, err=True)
    typer.echo(
        f"home {settings.home} · docs http://{settings.host}:{settings.port}/docs · Ctrl-C drains", err=True
    )
    everything = os.environ | environment(settings)
    keyless = {name: value for name, value in everything.items() if name != SIGNING_KEY}
    environments: dict[Part, dict[str, str]] = {
        "api": everything,  # which signs
        "worker": keyless,  # which has no use for the key
    }
    Processes({part: _command(part, settings) for part in parts}, environments).run()


@commands.command()
def migrate() -> None:
    """Bring the ledger's tables to the version of this program."""
    _upgrade(read_settings())
    typer.echo(f"the ledger is at version {schema.head()}")


class Processes:
    """Keeps processes running until a signal says stop; one that dies is started again."""

    def __init__(
        self, commands: Mapping[Part, Sequence[str]], environments: Mapping[Part, Mapping[str, str]]
    ) -> None:
        self.commands = commands
        self.environments = environments
        self.running: dict[Part, subprocess.Popen[bytes]] = {}
        self.started: dict[Part, float] = {}
        self.signals = 0

    def run(self) -> None:
        """Start all, and return when all have drained. Raises `ResourceError` when one does not get to work."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count)
        try:
            for part in self.commands:
                self._start(part)
            while not self.signals:
                time.sleep(TICK_S)
                for part, process in list(self.running.items()):
                    if process.poll() is not None and not self.signals:
                        self._revive(part, process.returncode)
        finally:
            self._drain()

    def _start(self, part: Part) -> None:
        self.running[part] = subprocess.Popen(  # noqa: S603 - our own commands
            self.commands[part],
            env=self.environments[part],
            start_new_session=True,  # Ctrl-C comes to us alone, and we tell them in our way
            preexec_fn=_end_with_the_parent if sys.platform == "linux" else None,
        )
        self.started[part] = time.monotonic()

    def _revive(self, part: Part, code: int) -> None:
        if code > 0 and time.monotonic() - self.started[part] < SETTLED_S:
            raise ResourceError(
                f"The {part} process ended at once, with exit code {code}.",
                code=f"serve.{part}",
                remedy="What it printed above says why.",
            )
        typer.secho(f"the {part} process ended with exit code {code}; starting it again", err=True)
        time.sleep(PAUSE_S)
        self._start(part)

    def _drain(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        while any(process.poll() is None for process in self.running.values()):
            if self.signals > 1:
                for process in self.running.values():
                    process.kill()
            time.sleep(TICK_S)

    def _count(self, *_: Any) -> None:  # noqa: ANN401 - a signal handler's own signature
        self.signals += 1
        if self.signals == 1:
            typer.echo(
                "draining: running jobs get a little time, then they are queued again; Ctrl-C once more kills",
                err=True,
            )


def _upgrade(settings: Settings) -> None:
    database = Database(settings.database)
    schema.upgrade(database)
    database.close()


def _warning(settings: Settings) -> str:
    url = f"http://{settings.host}:{settings.port}"
    if settings.auth == "off":
        return f"auth is off: every program of this machine may use {url}"
    if is_loopback(settings.host):
        return f"auth is on: {url} asks for a key, made with sanitizer keys create NAME"
    return f"auth is on, but {url} is not encrypted: put a proxy with TLS in front of it"


def _command(part: Part, settings: Settings) -> list[str]:
    match part:
        case "api":
            return [
                *(sys.executable, "-m", "uvicorn", "--factory", "app.main:serving"),
                *("--host", settings.host, "--port", str(settings.port)),
                *("--http", "app.api.connection:Connection"),
                *("--no-server-header", "--timeout-graceful-shutdown", "5"),
            ]
        case "worker":
            return [
                *(sys.executable, "-m", "celery", "--app", "worker.celery", "--quiet", "worker"),
                *("--pool", "solo", "--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ]


def _end_with_the_parent() -> None:
    """Ask Linux for a SIGTERM when `serve` dies without a word."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
