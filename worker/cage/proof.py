"""What a confined child says of itself: run through the same door as every job.

As a module of the door, it only prints the confinement. As a function, it starts such a child and reads the answer.
"""

import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from app.contract.confinement import Confinement, Level
from app.contract.problem import Problem
from app.errors import ConfinementError
from worker.cage.policy import Limits, policy
from worker.cage.start import run

LIMITS = Limits(memory_bytes=2 << 30, file_bytes=1 << 20, folder_bytes=1 << 30, wall_s=60)


def prove(required: Level = Level.FULL) -> Confinement:
    """Confine a child of our own for the trial, and give what it found. Takes a quarter of a second.

    Raises `ConfinementError` when a layer that `required` names does not hold, or the child does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="cage-") as name:
        folder = Path(name)
        tried = policy((folder,), limits=LIMITS, required=required)
        ended = run(__name__, (), folder, tried)
    try:
        if ended.code == 0:
            return Confinement.model_validate_json(ended.out)
        problem = Problem.model_validate_json(ended.err.splitlines()[-1] if ended.err else b"")
    except ValidationError as error:
        raise ConfinementError(
            f"The confined child did not answer: exit code {ended.code}, "
            f"{ended.err.decode('utf-8', 'replace')[-500:]!r}."
        ) from error
    raise ConfinementError(problem.detail, code=problem.code, remedy=problem.remedy)


def main(confinement: Confinement) -> int:
    """Print it."""
    sys.stdout.write(confinement.model_dump_json())
    return 0
