"""One child process: started into its cage, heard line by line, watched, ended as a group."""

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from app.contract.problem import Problem
from app.errors import ConfinementError
from worker.cage.door import UNCONFINED
from worker.cage.messages import LOG, LONGEST_LINE, MESSAGE, Message
from worker.cage.policy import Policy
from worker.cage.start import Breach, Watch, start

MODULE = "worker.cage.child"
LAST_WORDS = 4000  # bytes
TICK_S = 0.2  # between two looks at the reasons to end it
PIECE = 64 * 1024


class Misbehaved(Exception):
    """The child sent what is no message."""


class Child:
    """Use it as a context: at its end no process of the group is left."""

    def __init__(self, folder: Path, policy: Policy, grace_s: float) -> None:
        self.folder = folder
        self.policy = policy
        self.grace_s = grace_s
        self.breach: Breach | None = None  # the limit for which it was ended

    def __enter__(self) -> "Child":
        self.pipe, theirs = os.pipe()
        try:
            with (self.folder / LOG).open("wb") as log:
                self.process = start(
                    MODULE,
                    [str(theirs)],
                    self.folder,
                    self.policy,
                    keep=(theirs,),
                    stdin=subprocess.PIPE,  # never written to; its end tells the child that we are gone
                    stdout=log,
                    stderr=log,
                )
        except BaseException:
            os.close(self.pipe)
            raise
        finally:
            os.close(theirs)
        self.watch = Watch(self.process.pid, self.folder, self.policy.limits)
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.pipe)
        if self.process.stdin is not None:
            self.process.stdin.close()

    def messages(self) -> Iterator[Message | None]:
        """What the child says, and None whenever it is silent, until it closes the pipe or is ended for a breach.

        Raises `Misbehaved`.
        """
        pending = b""
        while True:
            self.breach = self.watch.breach()
            if self.breach is not None:
                self._signal(signal.SIGKILL)
                return
            if not select.select([self.pipe], [], [], TICK_S)[0]:
                yield None
                continue
            if not (piece := os.read(self.pipe, PIECE)):
                return
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                yield self._message(line)
            if len(pending) > LONGEST_LINE:
                raise Misbehaved(f"a line of more than {LONGEST_LINE} bytes")

    def stop(self) -> None:
        """Ask the group to end, and end it when it does not."""
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)

    def fate(self) -> str:
        """How it ended, in words. Blocks until it has."""
        try:
            code = self.process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            return "it closed its pipe and did not end"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"

    def last_words(self) -> str:
        """The end of what it printed, for the operator's log."""
        with (self.folder / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS))
            return log.read().decode("utf-8", "replace")

    def unconfined(self) -> Problem | None:
        """Why the cage could not be closed, so that nothing was opened; None when it could."""
        if self.process.poll() != UNCONFINED:
            return None
        try:
            return Problem.model_validate_json(self.last_words().splitlines()[-1])
        except (IndexError, ValidationError):
            return Problem.of(ConfinementError("The process that opens uploads could not be confined."))

    def _message(self, line: bytes) -> Message:
        try:
            return MESSAGE.validate_json(line)
        except ValidationError as error:
            raise Misbehaved(f"a line that is no message ({error.error_count()} errors)") from error

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            return
