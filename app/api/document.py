"""The OpenAPI document: FastAPI's own, with the bodies that are read by hand and one form of error everywhere."""

from copy import deepcopy
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.examples import illustrate
from app.api.jobs import Rerun
from app.api.problems import MEDIA_TYPE, HttpProblem
from app.contract.event import StateEvent, StepEvent
from app.contract.job import JobRequest
from app.contract.key import Scope
from app.contract.upload import UploadRequest

REF = "#/components/schemas/{model}"
BY_HAND: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
    (JobRequest, "validation"),
    (UploadRequest, "validation"),
    (Rerun, "validation"),
    (StateEvent, "serialization"),
    (StepEvent, "serialization"),
    (HttpProblem, "serialization"),
]
PROBLEM = {
    "description": "What is wrong, and what to do about it",
    "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model=HttpProblem.__name__)}}},
}


class Documented(FastAPI):
    """FastAPI with a document that says everything. `locked`: callers need keys."""

    locked = False

    def openapi(self) -> dict[str, Any]:
        """The document."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        document = super().openapi()
        _, by_hand = models_json_schema(BY_HAND, ref_template=REF)
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        document["components"]["schemas"] = by_hand["$defs"] | schemas
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = deepcopy(PROBLEM)
                needed = operation.pop("security", None)
                if needed and self.locked:
                    operation["security"] = [{name: [Scope.of(method).value] for name in needed[0]}]
                illustrate(path, operation)
        if not self.locked:
            document["components"].pop("securitySchemes", None)
        return document
