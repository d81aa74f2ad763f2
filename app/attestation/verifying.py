"""Whether a folder is what its statement says: every digest, the signatures, and what the changes would make.

The folder may come from a stranger: no link is followed, nothing but plain files is opened, and sizes are bounded.
"""

import hashlib
import os
import stat
from io import FileIO
from pathlib import Path

from pydantic import Field, ValidationError

from app.attestation import folder as whole
from app.attestation import signing, statement
from app.attestation.names import BUNDLE, FILES, FOLDER_SIGNATURE, STATEMENT
from app.contract.changes import Changes
from app.contract.frozen import Frozen
from app.errors import AttestationError

CHANGES = "changes.json"
LARGEST_TEXT = 64 * 1024 * 1024  # bytes of what is parsed


class Finding(Frozen):
    """Something that is not what was attested."""

    file: str
    what: str


class Verification(Frozen):
    """What was checked, and what did not hold."""

    intact: tuple[str, ...] = Field(description="files with the digest that the statement names")
    findings: tuple[Finding, ...]
    unattested: tuple[str, ...] = Field(description="files that no statement names; nothing is said of them")
    signed_by: str | None = Field(description="fingerprint of the key; None: no signature was checked")
    is_signed: bool = Field(description="whether there is a signature at all")
    outcome: str = Field(description="what the statement says became of the repair")


def verify(folder: Path, key: signing.PublicKey | None) -> Verification:
    """Check what lies in `folder`. Raises `AttestationError` where there is no statement that can be read."""
    names = _names(folder)
    bundle = signing.read_bundle(_text(folder / BUNDLE)) if BUNDLE in names else None
    data = _stated(folder, names, bundle)
    stated = statement.read(data)
    findings: list[Finding] = []
    intact: list[str] = []
    for subject in stated.subject:
        wrong = _difference(folder / subject.name, subject.digest.sha256)
        if wrong:
            findings.append(Finding(file=subject.name, what=wrong))
        else:
            intact.append(subject.name)
    if bundle is not None and bundle.dsse_envelope.payload != data:
        findings.append(Finding(file=STATEMENT, what="is not the statement that was signed"))
    if key is not None:
        findings += _signatures(folder, names, bundle, key)
    findings += _contradictions(folder, stated, intact)
    known = {subject.name for subject in stated.subject} | set(FILES)
    return Verification(
        intact=tuple(intact),
        findings=tuple(findings),
        unattested=tuple(sorted(names - known)),
        signed_by=signing.fingerprint(key) if key is not None else None,
        is_signed=bundle is not None,
        outcome=stated.predicate.outcome,
    )


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names are what is wanted
    except OSError as error:
        raise AttestationError(
            f"{str(folder)!r} is no folder that can be read.", code="attestation.folder"
        ) from error


def _stated(folder: Path, names: set[str], bundle: signing.Bundle | None) -> bytes:
    if STATEMENT in names:
        return _text(folder / STATEMENT)
    if bundle is not None:
        return bundle.dsse_envelope.payload
    raise AttestationError(
        f"{str(folder)!r} holds neither {STATEMENT} nor {BUNDLE}.",
        code="attestation.missing",
        remedy="Name a folder that sanitizer sanitize wrote, or the folder of what was downloaded.",
    )


def _difference(path: Path, expected: str) -> str | None:
    """What is wrong with a file, if anything is."""
    if not os.path.lexists(path):
        return "is missing"
    try:
        with _opened(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except AttestationError as error:
        return error.detail
    return None if found == expected else f"was changed: its SHA-256 is {found}, attested is {expected}"


def _signatures(
    folder: Path, names: set[str], bundle: signing.Bundle | None, key: signing.PublicKey
) -> list[Finding]:
    if bundle is None:
        return [Finding(file=BUNDLE, what="is missing: nobody signed the statement")]
    found = []
    if not signing.is_signed_by(bundle, key):
        found.append(Finding(file=BUNDLE, what="was not signed with this key"))
    if FOLDER_SIGNATURE in names:
        found += _folder_signature(folder, key)
    return found


def _folder_signature(folder: Path, key: signing.PublicKey) -> list[Finding]:
    try:
        bundle = signing.read_bundle(_text(folder / FOLDER_SIGNATURE))
        if not signing.is_signed_by(bundle, key):
            return [Finding(file=FOLDER_SIGNATURE, what="was not signed with this key")]
        files = whole.read(bundle.dsse_envelope.payload)
    except AttestationError as error:
        return [Finding(file=FOLDER_SIGNATURE, what=error.detail)]
    return [
        Finding(file=name, what=f"is not what {FOLDER_SIGNATURE} signed: {wrong}")
        for name, expected in files.items()
        if Path(name).name == name and (wrong := _difference(folder / name, expected))
    ]


def _contradictions(folder: Path, stated: statement.Statement, intact: list[str]) -> list[Finding]:
    """Files that are what was attested, and yet do not fit together."""
    result = stated.predicate.result.digest.sha256
    found = []
    if stated.predicate.kind == "sanitize" and result not in {s.digest.sha256 for s in stated.subject}:
        found.append(
            Finding(file=STATEMENT, what="is about no file that is the model it says was given back")
        )
    if CHANGES in intact:
        try:
            changes = Changes.model_validate_json(_text(folder / CHANGES, _room(folder, intact)))
        except ValidationError:
            return [*found, Finding(file=CHANGES, what="is no list of changes")]
        if changes.result_digest != f"sha256:{result}":
            what = f"applied, it makes {changes.result_digest}, and attested is sha256:{result}"
            found.append(Finding(file=CHANGES, what=what))
        if changes.source_digest != f"sha256:{stated.predicate.model()}":
            found.append(Finding(file=CHANGES, what="was made for another model than the attested input"))
    return found


def _room(folder: Path, intact: list[str]) -> int:
    """Bytes that a list of changes may have: rewritten tensors are as large as the model, and more as text."""
    others = ((folder / name).stat().st_size for name in intact if name != CHANGES)
    return LARGEST_TEXT + 2 * max(others, default=0)


def _text(path: Path, room: int = LARGEST_TEXT) -> bytes:
    with _opened(path) as file:
        data = file.read(room + 1)
    if len(data) > room:
        raise AttestationError(f"{path.name!r} is too large.")
    return data


def _opened(path: Path) -> FileIO:
    try:
        file = FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError as error:
        raise AttestationError(f"{path.name!r} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise AttestationError(f"{path.name!r} is no plain file")
    return file
