"""Every operation of the OpenAPI document, under whatever Schemathesis makes of it; stateful too.

`SCHEMATHESIS_EXAMPLES=100 SCHEMATHESIS_SECONDS=1800 pytest tests/service/test_schema.py` looks for longer.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.service.conftest import Server, until

EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "4")
SECONDS = os.environ.get("SCHEMATHESIS_SECONDS", "45")
QUICK = {"MAX_UPLOADS": "100000", "IDLE_S": "2", "MAX_WAIT_S": "1", "MAX_STREAM_S": "1"}


def test_no_request_breaks_the_service_or_the_document(own_server: Server) -> None:
    own_server.variables = {f"LIMITS__{name}": value for name, value in QUICK.items()}
    own_server.start()
    program = str(Path(sys.executable).parent / "schemathesis")
    config = str(Path(__file__).parent / "schemathesis.toml")
    done = subprocess.run(
        [
            *(program, "--config-file", config, "run", f"{own_server.url}/openapi.json"),
            *("--max-examples", EXAMPLES, "--max-time", SECONDS, "--seed", "1", "--no-color"),
            *(
                "--generation-database",
                "none",
                "--request-timeout",
                "20",
                "--continue-on-failure",
                "--no-shrink",
            ),
        ],
        cwd=own_server.home.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=float(SECONDS) + 60,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "Traceback" not in own_server.log()
    staged = own_server.home / "blobs" / ".staged"
    assert until(lambda: not list(staged.iterdir()), 10)
