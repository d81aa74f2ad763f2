"""A job as a multipart form: its files go to the store while they come, its options into a small buffer.

The parser is python-multipart's; here is only what each part means.
"""

import json
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.api.problems import parse
from app.blobs.interface import Blobs, Staged, Staging, too_large
from app.contract.artifact import INPUTS, ArtifactKind, Named, file_name
from app.contract.frozen import Frozen
from app.contract.job import Inputs, JobKind, JobRequest, TriggeredTarget
from app.contract.options import SanitizeOptions
from app.errors import RequestError
from app.settings import Limits

FILES = {kind.value: kind for kind in INPUTS}
KIND, OPTIONS, TARGET = "kind", "options", "triggered_target"  # text
OVERHEAD = 64 * 1024  # bytes of boundaries and headers


class Target(Frozen):
    """The part of that name."""

    triggered_target: TriggeredTarget = None


class Kind(Frozen):
    """The part of that name."""

    kind: JobKind


@dataclass(slots=True)
class File:
    """One file of the form."""

    name: str
    staging: Staging
    staged: Staged | None = None


class Form:
    """The parts of a form, as they come. Everything blocks: feed it in a thread, and `discard` it at the end."""

    def __init__(self, content_type: str, blobs: Blobs, limits: Limits) -> None:
        _, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise _malformed("The content type names no boundary")
        self.blobs = blobs
        self.limits = limits
        self.files: dict[ArtifactKind, File] = {}
        self.texts: dict[str, bytearray] = {}
        self.into: Staging | bytearray | None = None  # where the data of this part goes
        self.header = (bytearray(), bytearray())
        self.headers: dict[str, str] = {}
        self.complete = False
        try:
            self.parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self.headers.clear,
                    "on_header_field": lambda data, start, end: self.header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self.header[1].extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._complete,
                },
            )
        except ValueError as error:
            raise _malformed(str(error)) from error

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises `RequestError`, `StorageError`."""
        try:
            self.parser.write(data)
        except MultipartParseError as error:
            raise _malformed(str(error)) from error

    def request(self) -> tuple[JobRequest, list[Staged]]:
        """What the whole form asks for, and the files to store first. Raises `RequestError`, `InvalidFields`."""
        if not self.complete:
            raise _malformed("The form ends before its last boundary")
        kind = parse(Kind, json.dumps({KIND: self._text(KIND, JobKind.SANITIZE.value)}).encode(), "").kind
        if why := kind.objection(self.files):
            raise _malformed(why, status=422)
        options = parse(SanitizeOptions, bytes(self.texts.get(OPTIONS) or b"{}"), OPTIONS)
        target = parse(Target, b'{"%s": %s}' % (TARGET.encode(), self.texts.get(TARGET) or b"null"), "")
        staged = {part: file.staged for part, file in self.files.items() if file.staged is not None}
        named = {part.value: Named(digest=staged[part].digest, name=self.files[part].name) for part in staged}
        if target.triggered_target is not None and ArtifactKind.TRIGGERED not in self.files:
            raise _malformed(
                f"The form has {TARGET!r} and no file {ArtifactKind.TRIGGERED.value!r}", status=422
            )
        asked = JobRequest(
            kind=kind, inputs=Inputs(**named), options=options, triggered_target=target.triggered_target
        )
        return asked, list(staged.values())

    def discard(self) -> None:
        """Forget whatever was not stored."""
        for file in self.files.values():
            file.staging.discard()

    def _text(self, part: str, default: str) -> str:
        return self.texts[part].decode("utf-8", "replace") if part in self.texts else default

    def _end_header(self) -> None:
        field, value = self.header
        # Latin-1 keeps every byte, and python-multipart turns it into the same bytes again.
        self.headers[field.decode("latin-1").lower()] = value.decode("latin-1")
        field.clear()
        value.clear()

    def _begin(self) -> None:
        kind, parameters = parse_options_header(self.headers.get("content-disposition"))
        part = parameters.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or part not in (*FILES, KIND, OPTIONS, TARGET):
            raise _malformed(f"The form has an unknown part {part[:100]!r}", status=422)
        if part in self.texts or FILES.get(part) in self.files:
            raise _malformed(f"The form has two parts {part!r}", status=422)
        if part not in FILES:
            self.into = self.texts[part] = bytearray()
            return
        given = parameters.get(b"filename", b"").decode("utf-8", "replace")
        self.into = self.blobs.stage(self.limits.max_bytes(FILES[part]))
        self.files[FILES[part]] = File(file_name(given) or part, self.into)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if isinstance(self.into, bytearray):
            if len(self.into) + end - start > self.limits.max_json_bytes:
                raise too_large(self.limits.max_json_bytes)
            self.into.extend(data[start:end])
        elif self.into is not None:
            self.into.write(data[start:end])

    def _end(self) -> None:
        for file in self.files.values():
            if file.staging is self.into:
                file.staged = file.staging.finish()
        self.into = None

    def _complete(self) -> None:
        self.complete = True


def largest(limits: Limits) -> int:
    """The most bytes that a whole form may have."""
    return sum(limits.max_bytes(kind) for kind in FILES.values()) + limits.max_json_bytes + OVERHEAD


def _malformed(why: str, status: int = 400) -> RequestError:
    return RequestError(
        f"{why}.",
        status=status,
        code="request.form",
        remedy="Send the files 'model' and 'samples', and if you like 'kind', 'triggered', 'triggered_target' and "
        "'options'; with the kind 'screen' the file 'suspects' and none that is triggered: "
        "curl -F model=@model.safetensors -F samples=@clean.zip -F 'options={\"seed\": 1}'.",
    )
