"""A cage that can also import what lies beside the tests; everything else is as in production."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.cage import start
from worker.cage.policy import Limits, policy
from worker.cage.start import Ended

HERE = Path(__file__).parent
LIMITS = Limits(memory_bytes=1 << 30, file_bytes=2 << 20, folder_bytes=32 << 20, wall_s=60)


@pytest.fixture(autouse=True)
def door(monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import sys; sys.path.append({str(HERE)!r}); from worker.cage.door import main; main()"
    monkeypatch.setattr(start, "DOOR", ("-I", "-B", "-c", code))


@pytest.fixture
def let_loose(tmp_path: Path) -> Callable[..., Ended]:
    """Run a function of `inmates` in a cage of its own."""

    def let_loose(deed: str, limits: Limits = LIMITS, **bounds: Any) -> Ended:
        folder = tmp_path / deed
        folder.mkdir()
        bounded = policy((folder,), readable=(HERE,), limits=limits, **bounds)
        return start.run("inmates", (deed,), folder, bounded)

    return let_loose
