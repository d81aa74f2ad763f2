"""Every way this product says no, as one tree.

    SanitizerError                     internal
    ├── InputError                     the uploader can mend it
    │   ├── ModelError                 model.*
    │   ├── SamplesError               samples.*
    │   ├── OptionsError               options.*
    │   ├── ChangesError               changes.*
    │   ├── AttestationError           attestation.*
    │   └── RequestError               request.*, artifact.*, idempotency.*
    ├── AccessError                    access.*
    │   └── CredentialsError           access.key_*: no key, or not a good one
    ├── QuotaError                     quota.*, rate.*: more than the tenant's share
    ├── UnknownError                   *.unknown: not there, or not yours
    ├── GoneError                      *.expired
    ├── ConflictError                  the state of things forbids it
    ├── OutputError                    output.*
    ├── ResourceError                  resource.*
    │   ├── StorageError               storage.*
    │   └── UnavailableError           service.*
    ├── SettingsError                  settings.*
    ├── SigningKeyError                signing.*
    ├── ConfinementError               confinement.*
    └── JobCanceled                    job.canceled

A leaf is a `code` such as `model.unsafe_pickle`, not a class: programs read codes, people read `detail` and `remedy`.
Knows no HTTP framework, no tensor, no other module of ours.
"""

from enum import IntEnum
from typing import Self

from pydantic import ValidationError


class ExitCode(IntEnum):
    """What the command line returns; 130 is what a shell expects after Ctrl-C."""

    OK = 0  # clean, or repaired
    FINDINGS = 1  # evidence that stands: not repaired
    ERROR = 2
    UNSUPPORTED = 3  # the input cannot be used
    USAGE = 4
    INCONCLUSIVE = 5
    CANCELED = 130


class SanitizerError(Exception):
    """Something went wrong inside the product."""

    code = "internal"
    status = 500
    retriable = False
    exit_code = ExitCode.ERROR
    remedy = "This is a defect of ours. Report it with the command that led here."

    def __init__(self, detail: str, *, code: str | None = None, remedy: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.remedy = remedy or type(self).remedy


class InputError(SanitizerError):
    """What was uploaded cannot be used as it is."""

    code = "input"
    status = 422
    exit_code = ExitCode.UNSUPPORTED
    remedy = "Correct the input and submit it again."


class ModelError(InputError):
    """The model file cannot be used."""

    code = "model.unreadable"


class SamplesError(InputError):
    """The samples cannot be used."""

    code = "samples.unreadable"


class OptionsError(InputError):
    """An option is out of its bounds, or contradicts another."""

    code = "options.invalid"
    exit_code = ExitCode.USAGE


class ChangesError(InputError):
    """The list of changes does not fit the model it is applied to."""

    code = "changes.mismatch"


class AttestationError(InputError):
    """What came with a model as evidence cannot be read."""

    code = "attestation.unreadable"
    remedy = "Get the files again from where they were made; do not use the model before they verify."


class ClientError(SanitizerError):
    """The service could not be asked."""

    code = "client.failed"


class ServiceError(SanitizerError):
    """The service said no, or the job failed; code and remedy are its own."""

    code = "client.answer"
    remedy = "Check --url: what answered there is no model-sanitizer."


class RequestError(InputError):
    """The HTTP request cannot be understood; every code has its own status."""

    code = "request.invalid"
    status = 400
    remedy = "See /docs for what this call takes."

    def __init__(
        self, detail: str, *, status: int = 400, code: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(detail, code=code, remedy=remedy)
        self.status = status


class AccessError(SanitizerError):
    """The caller may not do this."""

    code = "access.denied"
    status = 403
    remedy = "Ask whoever runs the service."


class CredentialsError(AccessError):
    """The caller shows no API key, or one that opens nothing."""

    code = "access.key_missing"
    status = 401
    remedy = "Send 'Authorization: Bearer KEY'. Whoever runs the service makes a key with: sanitizer keys create NAME."


class QuotaError(SanitizerError):
    """The tenant asks for more than its share; every code has its own status."""

    code = "quota.exceeded"
    status = 429

    def __init__(
        self, detail: str, *, code: str, remedy: str, status: int = 429, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail, code=code, remedy=remedy)
        self.status = status
        self.retry_after_s = retry_after_s


class UnknownError(SanitizerError):
    """There is no such thing, or it belongs to somebody else; the answer does not tell which."""

    code = "unknown"
    status = 404
    remedy = "Check the address and the id."


class GoneError(SanitizerError):
    """It was here; its bytes were deleted when its time was over, or when its owner said so."""

    code = "job.expired"
    status = 410
    remedy = "Submit the job again; the inputs have to be uploaded again too."


class ConflictError(SanitizerError):
    """What was asked contradicts the present state."""

    code = "conflict"
    status = 409
    remedy = "Look at the present state, and ask again when it allows it."


class OutputError(SanitizerError):
    """The result could not be written."""

    code = "output.unwritable"
    remedy = "Free some space or name another output folder, and run again; nothing was half written."


class ResourceError(SanitizerError):
    """The machine ran out of something."""

    code = "resource.exhausted"
    retriable = True
    remedy = "Run again on a machine with more memory, or with fewer samples."


class StorageError(ResourceError):
    """The disk or the object store does not take the bytes, or has lost them."""

    code = "storage.full"
    status = 507
    remedy = "Nothing was half stored. Try again when the operator has made space."


class UnavailableError(ResourceError):
    """A part of the service does not answer at the moment."""

    code = "service.unavailable"
    status = 503
    remedy = "Try again in a few seconds."


class SettingsError(SanitizerError):
    """A setting of the service is wrong; it does not start."""

    code = "settings.invalid"
    exit_code = ExitCode.USAGE
    remedy = "Correct the environment variable or the option that is named, and start again."

    @classmethod
    def of(cls, prefix: str, error: ValidationError) -> Self:
        """The first mistake, under the name of its variable."""
        first = error.errors()[0]
        name = prefix + "__".join(str(part) for part in first["loc"]).upper()
        return cls(f"{name.rstrip('_')}: {first['msg'].removeprefix('Value error, ')}.")


class SigningKeyError(SanitizerError):
    """The key that is to sign, or to check a signature, cannot be used."""

    code = "signing.key"
    exit_code = ExitCode.USAGE
    remedy = (
        "Name the PEM file of a private ECDSA P-256 key without a password: "
        "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
    )


class ConfinementError(SanitizerError):
    """The process that opens uploads cannot be confined, or did what no such process may."""

    code = "confinement.missing"
    status = 503
    remedy = (
        "Run on Linux 6.2 or newer with Landlock and seccomp, and start containers with their default profiles; "
        "or lower the level by name (full, reduced, none) where whoever uploads is trusted."
    )


class JobCanceled(SanitizerError):
    """The job was canceled; nothing was written."""

    code = "job.canceled"
    status = 409
    exit_code = ExitCode.CANCELED
    remedy = "Run the command again when you want the result."
