"""What is signed of a whole folder: the list of files that model-signing of the OpenSSF makes and verifies."""

import hashlib
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.attestation.statement import STATEMENT_TYPE, as_bytes
from app.errors import AttestationError

PREDICATE_TYPE = "https://model_signing/signature/v1.0"


def manifest(name: str, files: Mapping[str, str], *, signature: str) -> bytes:
    """The payload over `files` (name: sha256:…) of the folder `name`, in which the file `signature` is passed over."""
    digests = {file: files[file].removeprefix("sha256:") for file in sorted(files)}
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests.values())).hexdigest()
    return as_bytes(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": root}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [signature],
                },
                "resources": [
                    {"name": file, "algorithm": "sha256", "digest": digest}
                    for file, digest in digests.items()
                ],
            },
        }
    )


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True)


class Resource(_Read):
    """A file of the folder."""

    name: str
    algorithm: Literal["sha256"]
    digest: str


class Resources(_Read):
    """All of them."""

    resources: tuple[Resource, ...]


class Manifest(_Read):
    """The payload, as far as it is checked."""

    predicate_type: Literal["https://model_signing/signature/v1.0"] = Field(alias="predicateType")
    predicate: Resources


def read(data: bytes) -> dict[str, str]:
    """name: hex digest, of every file that was signed. Raises `AttestationError`."""
    try:
        found = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise AttestationError("What was signed is no list of files.") from error
    return {resource.name: resource.digest for resource in found.predicate.resources}
