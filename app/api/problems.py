"""Every error as a problem (RFC 9457). The only place that makes an error response."""

import logging
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match

from app.contract.frozen import Frozen
from app.contract.problem import Problem
from app.errors import RequestError, SanitizerError, UnknownError

MEDIA_TYPE = "application/problem+json"
RETRY_S = "5"
CLIENT_CLOSED = 499
T = TypeVar("T", bound=BaseModel)
log = logging.getLogger(__name__)


class FieldProblem(Frozen):
    """One field that is wrong."""

    pointer: str
    detail: str


class HttpProblem(Problem):
    """A problem with the members that RFC 9457 gives it over HTTP."""

    type: str = "about:blank"
    title: str
    status: int
    instance: str
    errors: tuple[FieldProblem, ...] = ()


class InvalidFields(RequestError):
    """Fields are missing, unknown or out of bounds."""

    code = "request.invalid"

    def __init__(self, errors: Sequence[Any], where: str) -> None:
        self.errors = tuple(
            FieldProblem(
                pointer="/".join((where, *(str(part) for part in error["loc"]))),
                detail=str(error["msg"]).removeprefix("Value error, "),
            )
            for error in errors
        )
        first = self.errors[0]
        told = ": ".join(part for part in (first.pointer, first.detail) if part)
        super().__init__(f"{told}.", status=422)


def parse(model: type[T], data: bytes, where: str) -> T:
    """JSON as a value of the contract. Raises `InvalidFields`."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise InvalidFields(error.errors(include_url=False, include_context=False), where) from error


def install(app: FastAPI, routes: Iterable[BaseRoute]) -> None:
    """Answer every error with a problem; `routes` are those of the API."""
    app.state.routes = tuple(routes)
    app.add_exception_handler(SanitizerError, _ours)
    app.add_exception_handler(RequestValidationError, _fields)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _defect)


def respond(request: Request, error: SanitizerError, headers: dict[str, str] | None = None) -> Response:
    """The response that says what the error says."""
    trace_id = getattr(request.state, "trace_id", "")
    problem = HttpProblem(
        **dict(Problem.of(error)) | {"trace_id": trace_id},
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        instance=request.url.path,
        errors=getattr(error, "errors", ()),
    )
    return Response(
        problem.model_dump_json(exclude_none=True),
        error.status,
        {**_advice(error), **(headers or {}), "Cache-Control": "no-store", "X-Request-Id": trace_id},
        MEDIA_TYPE,
    )


def _advice(error: SanitizerError) -> dict[str, str]:
    """The header that tells a program what to do about its status."""
    match error.status:
        case 401:
            return {"WWW-Authenticate": "Bearer"}
        case 429 | 503:
            return {"Retry-After": str(getattr(error, "retry_after_s", None) or RETRY_S)}
        case _:
            return {}


async def _ours(request: Request, error: Exception) -> Response:
    return respond(request, cast(SanitizerError, error))


async def _fields(request: Request, error: Exception) -> Response:
    return respond(request, InvalidFields(cast(RequestValidationError, error).errors(), ""))


async def _http(request: Request, error: Exception) -> Response:
    raised = cast(HTTPException, error)
    if raised.status_code == HTTPStatus.NOT_FOUND:
        return respond(
            request, UnknownError(f"There is nothing at {request.url.path}.", code="route.unknown")
        )
    ours = RequestError(
        f"{raised.detail}.",
        status=raised.status_code,
        code=f"request.{HTTPStatus(raised.status_code).name.lower()}",
    )
    headers = dict(raised.headers or {})
    if raised.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed(request) or headers["allow"]
    return respond(request, ours, headers)


def _allowed(request: Request) -> str:
    """What every route of this path takes; the router itself names only those of the first."""
    fitting = [
        route for route in request.app.state.routes if route.matches(request.scope)[0] is not Match.NONE
    ]
    verbs = [route for route in fitting if ":" in route.path]  # "job_1:cancel" could be an id, and is not
    fitting = verbs or fitting
    return ", ".join(sorted({method for route in fitting for method in route.methods}))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)  # nobody reads it


async def _defect(request: Request, error: Exception) -> Response:
    log.error("a defect answered %s %s", request.method, request.url.path, exc_info=error)
    return respond(request, SanitizerError("Something went wrong inside the service."))
