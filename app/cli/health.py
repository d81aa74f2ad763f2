"""`python -m app.cli.health api|worker`: the health check of a container; exit code 0 when that part works.

A program of its own, because it runs every few seconds: it starts without the rest of the command line.
"""

import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

from app.errors import SanitizerError
from app.settings import Settings, read_settings

TIMEOUT_S = 5
LOOKS = 6  # that a worker may miss


def api(settings: Settings) -> str | None:
    """What is wrong with the API that listens here; None when it can work."""
    try:
        with urlopen(f"http://127.0.0.1:{settings.port}/readyz", timeout=TIMEOUT_S):
            return None
    except (URLError, OSError) as error:
        return f"/readyz: {error}"


def worker(settings: Settings) -> str | None:
    """What is wrong with the worker of this home; None when it has looked at the ledger a short time ago.

    Not whether it answers pings: a worker can do that and take no work.
    """
    looks = [folder.stat().st_mtime for folder in settings.jobs_folder.glob("worker-*")]
    if not looks:
        return f"no worker has ever looked for work from {settings.home}"
    age = time.time() - max(looks)
    return (
        None if age < LOOKS * settings.clocks.look_s else f"the last look at the ledger was {age:.0f} s ago"
    )


PARTS = {"api": api, "worker": worker}


def main(arguments: list[str]) -> int:
    """The exit code: 0 healthy, 1 not, 2 a wrong setting or part."""
    if len(arguments) != 1 or arguments[0] not in PARTS:
        sys.stderr.write(f"name one of {', '.join(PARTS)}\n")
        return 2
    try:
        wrong = PARTS[arguments[0]](read_settings())
    except SanitizerError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 2
    sys.stderr.write(f"{wrong}\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
