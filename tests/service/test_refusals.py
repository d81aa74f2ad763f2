"""A worker that may not work says why and ends, instead of waiting beside its queue for ever."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.ledger import schema
from app.ledger.database import Database
from tests.service.conftest import ROOT
from worker.cage import kernel

SERVE = [str(Path(sys.executable).parent / "sanitizer"), "serve", "--only", "worker", "--home"]
LANDLOCK = 444  # landlock_create_ruleset on x86-64
# The kernel then answers ENOSYS to that call, as an older one does.
WITHOUT = f"""
import os, sys
from worker.cage import kernel, seccomp
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(((0x20, 0, 0, 0), (0x15, 0, 1, {LANDLOCK}), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7FFF0000)))
os.execv(sys.argv[1], sys.argv[1:])
"""


def served(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60, env=os.environ | variables
    )


@pytest.mark.skipif(kernel.MACHINE != "x86_64", reason="the number is that of x86-64")
def test_where_uploads_cannot_be_confined_no_worker_starts(tmp_path: Path) -> None:
    done = served([sys.executable, "-c", WITHOUT, *SERVE, str(tmp_path)])
    assert done.returncode != 0
    assert "confinement.missing: " in done.stderr
    assert "files: missing" in done.stderr
    assert "lower the level by name" in done.stderr


def test_on_a_ledger_of_another_version_no_worker_starts(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    schema.upgrade(database)
    with database.write() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    worker = [sys.executable, "-m", "celery", "--app", "worker.celery", "worker", "--pool", "solo"]
    done = served(worker, SANITIZER_HOME=str(tmp_path))
    assert done.returncode != 0
    assert "9999" in done.stderr
