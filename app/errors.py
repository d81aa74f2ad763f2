"""Every way this product says no, as one tree.

    SanitizerError                     internal
    ├── InputError                     the uploader can mend it
    │   ├── ModelError                 model.*
    │   ├── SamplesError               samples.*
    │   ├── OptionsError               options.*
    │   └── ChangesError               changes.*
    ├── OutputError                    output.*
    ├── ResourceError                  resource.*
    └── JobCanceled                    job.canceled

A leaf is a `code` such as `model.unsafe_pickle`, not a class: programs read codes, people read `detail` and `remedy`.
Knows no HTTP framework, no tensor, no other module of ours.
"""

from enum import IntEnum


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


class OutputError(SanitizerError):
    """The result could not be written."""

    code = "output.unwritable"
    remedy = "Free some space or name another output folder, and run again; nothing was half written."


class ResourceError(SanitizerError):
    """The machine ran out of something."""

    code = "resource.exhausted"
    retriable = True
    remedy = "Run again on a machine with more memory, or with fewer samples."


class JobCanceled(SanitizerError):
    """The job was canceled; nothing was written."""

    code = "job.canceled"
    status = 409
    exit_code = ExitCode.CANCELED
    remedy = "Run the command again when you want the result."
