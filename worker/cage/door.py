"""The one way into a cage: `python -I -B -m worker.cage.door POLICY MODULE ARGUMENT…`.

Confines the process, and only then imports MODULE and calls its `main(confinement) -> int`, which finds the arguments
in `sys.argv[1:]`. A module that is entered here cannot forget to be confined.
"""

import importlib
import sys
from typing import NoReturn

from app.contract.problem import Problem
from app.errors import ConfinementError
from worker.cage.confine import confine
from worker.cage.policy import Policy

UNCONFINED = 71  # the exit code when a required layer is missing; the problem is then on standard error


def main() -> NoReturn:
    """Leave with the exit code of the module."""
    policy, module = Policy.model_validate_json(sys.argv[1]), sys.argv[2]
    del sys.argv[:2]
    try:
        confinement = confine(policy)
    except ConfinementError as error:
        sys.stderr.write(Problem.of(error).model_dump_json() + "\n")
        sys.exit(UNCONFINED)
    sys.exit(importlib.import_module(module).main(confinement))


if __name__ == "__main__":
    main()
