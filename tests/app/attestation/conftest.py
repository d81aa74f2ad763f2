"""A folder as `sanitize --out` leaves it, and keys."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from app.attestation import evidence
from app.contract.changes import Changes, Rewrite
from app.contract.report import Report
from app.reports import as_json
from tests.conftest import KeyFiles, write_keys


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def keys(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> KeyFiles:
    return write_keys(tmp_path / "keys", key)


@pytest.fixture
def leave(make: Callable[..., Report], tmp_path: Path) -> Callable[..., Path]:
    """Write a result and its evidence; signed, where a key is given."""

    def left(
        key: ec.EllipticCurvePrivateKey | None = None,
        changed_to: str = "",
        model: bytes = b"the repaired model",
        rewrites: tuple[Rewrite, ...] = (),
    ) -> Path:
        result = f"sha256:{hashlib.sha256(model).hexdigest()}"
        report = make().model_copy(update={"result_digest": result})
        changes = Changes(
            source_digest=report.model.digest,
            result_digest=changed_to or result,
            method="prune",
            rewrites=rewrites,
        )
        files = {
            report.model.name: model,
            "changes.json": changes.model_dump_json().encode(),
            "report.json": as_json.render(report).encode(),
        }
        files |= evidence.make(report, {name: evidence.digest(data) for name, data in files.items()}, key)
        folder = tmp_path / "out"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder

    return left
