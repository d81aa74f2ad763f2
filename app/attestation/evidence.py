"""The files of evidence that lie beside a result."""

import hashlib
from collections.abc import Mapping

from app.attestation import folder, mlbom, signing, statement
from app.attestation.names import BUNDLE, FOLDER_SIGNATURE, MLBOM, STATEMENT
from app.contract.report import Report


def make(report: Report, files: Mapping[str, str], key: signing.PrivateKey | None) -> dict[str, bytes]:
    """Evidence about `files` (name: sha256:…): statement and bill of materials, and with a key both signatures."""
    bom = mlbom.render(report)
    told = dict(files) | {MLBOM: digest(bom)}
    stated = statement.state(report, told, statement.inputs_of(report))
    made = {MLBOM: bom, STATEMENT: stated}
    if key is not None:
        made[BUNDLE] = signing.sign(stated, key)
        whole = told | {name: digest(made[name]) for name in (STATEMENT, BUNDLE)}
        payload = folder.manifest(report.model.name, whole, signature=FOLDER_SIGNATURE)
        made[FOLDER_SIGNATURE] = signing.sign(payload, key)
    return made


def digest(data: bytes) -> str:
    """`sha256:…` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
