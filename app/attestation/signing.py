"""Signatures: a payload in a DSSE envelope in a Sigstore bundle (v0.3), by an ECDSA P-256 key from a PEM file.

The format is what model-signing of the OpenSSF reads and writes. Nothing is asked of a network.
"""

import base64
import hashlib
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from app.attestation.statement import MEDIA_TYPE as IN_TOTO
from app.errors import AttestationError, SigningKeyError

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
LARGEST_KEY = 64 * 1024  # bytes of a PEM file
ALGORITHM = ec.ECDSA(hashes.SHA256())

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


class _Camel(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class PublicKeyHint(_Camel):
    """Which key signed; the key itself has to come from elsewhere."""

    hint: str = Field(max_length=128, description="SHA-256 of the public key in PEM")


class Material(_Camel):
    """What a verifier needs besides the key: nothing, offline."""

    public_key: PublicKeyHint
    tlog_entries: tuple[()] = ()


class Signature(_Camel):
    """One signature."""

    sig: Base64Bytes
    keyid: str = Field("", max_length=128)


class Envelope(_Camel):
    """DSSE: a payload, its type, and the signatures over both."""

    payload: Base64Bytes
    payload_type: Literal["application/vnd.in-toto+json"] = "application/vnd.in-toto+json"
    signatures: tuple[Signature] = Field(description="exactly one")


class Bundle(_Camel):
    """A Sigstore bundle that was signed with a key."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = (
        "application/vnd.dev.sigstore.bundle.v0.3+json"
    )
    verification_material: Material
    dsse_envelope: Envelope


def sign(payload: bytes, key: PrivateKey) -> bytes:
    """A bundle around `payload`, as JSON."""
    signature = key.sign(_preauthenticated(payload), ALGORITHM)
    envelope = Envelope(
        payload=base64.b64encode(payload), signatures=(Signature(sig=base64.b64encode(signature)),)
    )
    material = Material(public_key=PublicKeyHint(hint=fingerprint(key.public_key())))
    bundle = Bundle(verification_material=material, dsse_envelope=envelope)
    return bundle.model_dump_json(by_alias=True, indent=2).encode() + b"\n"


def read_bundle(data: bytes) -> Bundle:
    """The bundle in `data`; its signature is not looked at. Raises `AttestationError`."""
    try:
        return Bundle.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AttestationError(f"This is no signature of ours: {where}: {first['msg']}.") from error


def is_signed_by(bundle: Bundle, key: PublicKey) -> bool:
    """Whether `key` made the signature over the payload."""
    envelope = bundle.dsse_envelope
    try:
        key.verify(envelope.signatures[0].sig, _preauthenticated(envelope.payload), ALGORITHM)
    except InvalidSignature:
        return False
    return True


def fingerprint(key: PublicKey) -> str:
    """SHA-256 of the public key in PEM, by which bundles name it."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def read_private_key(path: Path) -> PrivateKey:
    """The key of a PEM file. Raises `SigningKeyError`."""
    try:
        key = serialization.load_pem_private_key(_bytes(path), password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:  # TypeError: it asks for a password
        raise SigningKeyError(f"{path.name!r} holds no private key that can be read.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SigningKeyError(f"{path.name!r} holds another kind of key than ECDSA P-256.")
    return key


def read_public_key(path: Path) -> PublicKey:
    """The key of a PEM file. Raises `SigningKeyError`."""
    remedy = "Name the PEM file of the public key: openssl ec -in key.pem -pubout -out key.pub"
    try:
        key = serialization.load_pem_public_key(_bytes(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(f"{path.name!r} holds no public key.", remedy=remedy) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SigningKeyError(f"{path.name!r} holds another kind of key than ECDSA P-256.", remedy=remedy)
    return key


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_KEY)
    except OSError as error:
        raise SigningKeyError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error


def _preauthenticated(payload: bytes) -> bytes:
    """What DSSE signs: the payload with its type and both lengths."""
    return b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)
