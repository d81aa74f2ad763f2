"""`sanitizer verify`: whatever was touched is named, and nothing that a stranger left is trusted."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from app.attestation import names, signing
from app.attestation.verifying import Verification, verify
from app.cli.main import run
from app.contract.changes import Rewrite
from app.errors import SigningKeyError

Leave = Callable[..., Path]
MODEL = "backdoored-resnet18.safetensors"


def wrong(found: Verification) -> set[str]:
    return {finding.file for finding in found.findings}


def test_what_nobody_touched_verifies(leave: Leave, key: Any, keys: Any, capsys: Any) -> None:
    folder = leave(key)
    assert run(["verify", str(folder), "--key", str(keys.public)]) == 0
    out = capsys.readouterr().out
    assert f"intact      {MODEL}" in out
    assert signing.fingerprint(key.public_key()) in out


def test_without_a_key_it_says_that_no_signature_was_checked(leave: Leave, key: Any, capsys: Any) -> None:
    assert run(["verify", str(leave(key))]) == 0
    assert "signature   not checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [MODEL, "changes.json", "report.json", names.MLBOM, names.STATEMENT, names.FOLDER_SIGNATURE],
)
def test_a_changed_file_is_named(leave: Leave, key: Any, keys: Any, capsys: Any, name: str) -> None:
    folder = leave(key)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data.replace(b"e", b"3", 1) if name == MODEL else data + b" ")
    if name == names.FOLDER_SIGNATURE:
        (folder / name).write_bytes(data.replace(b'"sig": "M', b'"sig": "N'))
    assert run(["verify", str(folder), "--key", str(keys.public)]) == 1
    assert f"DIFFERS     {name}: " in capsys.readouterr().out


def test_a_missing_file_is_named_and_a_file_beside_is_not_vouched_for(leave: Leave) -> None:
    folder = leave()
    (folder / MODEL).unlink()
    (folder / "weights.pkl").write_bytes(b"")
    found = verify(folder, None)
    assert wrong(found) == {MODEL}
    assert found.unattested == ("weights.pkl",)


def test_a_folder_that_another_key_signed_anew_is_refused(leave: Leave, key: Any) -> None:
    folder = leave(ec.generate_private_key(ec.SECP256R1()))
    assert wrong(verify(folder, None)) == set()
    assert wrong(verify(folder, key.public_key())) == {names.BUNDLE, names.FOLDER_SIGNATURE}


def test_where_a_signature_is_asked_for_none_is_a_finding(leave: Leave, key: Any) -> None:
    assert wrong(verify(leave(), key.public_key())) == {names.BUNDLE}


def test_what_was_downloaded_needs_only_the_signed_statement(leave: Leave, key: Any) -> None:
    folder = leave(key)
    (folder / names.STATEMENT).unlink()
    (folder / names.FOLDER_SIGNATURE).unlink()
    assert wrong(verify(folder, key.public_key())) == set()


def test_changes_that_make_another_model_contradict_the_statement(leave: Leave) -> None:
    (finding,) = verify(leave(changed_to=f"sha256:{'0' * 64}"), None).findings
    assert (finding.file, "attested is" in finding.what) == ("changes.json", True)


def test_changes_may_be_as_long_as_the_model_asks_for(leave: Leave, monkeypatch: pytest.MonkeyPatch) -> None:
    """One and a third of its size, as base64 is; beside a text of the usual length."""
    text = 50_000
    monkeypatch.setattr("app.attestation.verifying.LARGEST_TEXT", text)
    rewrite = Rewrite(tensor="a", changed=1, difference="A" * 4 * text)
    folder = leave(model=bytes(3 * text), rewrites=(rewrite,))
    assert (folder / "changes.json").stat().st_size > text
    assert wrong(verify(folder, None)) == set()


def test_links_and_pipes_are_not_opened(leave: Leave) -> None:
    folder = leave()
    (folder / MODEL).rename(folder.parent / MODEL)
    (folder / MODEL).symlink_to(folder.parent / MODEL)
    (folder / "report.json").unlink()
    os.mkfifo(folder / "report.json")
    assert wrong(verify(folder, None)) == {MODEL, "report.json"}


@pytest.mark.parametrize("name", ["../key.pem", "/etc/passwd", "..", "", "a\0b"])
def test_a_statement_reaches_into_no_other_folder(leave: Leave, capsys: Any, name: str) -> None:
    folder = leave()
    told = json.loads((folder / names.STATEMENT).read_bytes())
    told["subject"][0]["name"] = name
    (folder / names.STATEMENT).write_text(json.dumps(told))
    assert run(["verify", str(folder)]) == 3
    assert "attestation.unreadable" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b"null"])
@pytest.mark.parametrize("name", [names.STATEMENT, names.BUNDLE])
def test_what_is_no_evidence_is_refused(leave: Leave, key: Any, capsys: Any, name: str, data: bytes) -> None:
    folder = leave(key)
    (folder / name).write_bytes(data)
    assert run(["verify", str(folder)]) == 3
    assert "attestation.unreadable" in capsys.readouterr().err


def test_a_folder_without_evidence_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert run(["verify", str(tmp_path)]) == 3
    assert "attestation.missing" in capsys.readouterr().err
    assert run(["verify", str(tmp_path / "nowhere")]) == 3
    assert "attestation.folder" in capsys.readouterr().err


def test_keys_that_cannot_sign_are_refused(tmp_path: Path, keys: Any) -> None:
    def written(name: str, key: Any, encryption: Any) -> Path:
        path = tmp_path / name
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return path

    plain = serialization.NoEncryption()
    p256 = ec.generate_private_key(ec.SECP256R1())
    locked = written("locked", p256, serialization.BestAvailableEncryption(b"secret"))
    p384 = written("p384", ec.generate_private_key(ec.SECP384R1()), plain)
    edwards = written("ed25519", ed25519.Ed25519PrivateKey.generate(), plain)
    for path in (locked, p384, edwards, keys.public, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SigningKeyError):
            signing.read_private_key(path)
    for path in (keys.private, tmp_path / "nowhere", p384):
        with pytest.raises(SigningKeyError):
            signing.read_public_key(path)
