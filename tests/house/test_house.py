"""Rules of the house that no linter knows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("worker/**/*.py")])
BANNED = ("util", "helper", "manager", "common", "core", "misc")


def test_the_app_loads_no_tensors() -> None:
    modules = "app.cli.main, app.main, worker.tasks, worker.supervision.workforce"
    code = f"import sys, {modules}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_short_and_well_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    assert not any(word in path.stem for word in BANNED)


def test_every_path_that_the_prose_names_exists() -> None:
    prose = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    named = {
        match
        for text in prose
        for match in re.findall(r"`((?:app|worker|docs|benchmarks|examples)/[\w/.-]*)`", text.read_text())
    }
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
