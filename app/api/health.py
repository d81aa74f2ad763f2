"""Whether the process lives, whether it can work, and what it measures."""

from typing import Literal

import sqlalchemy as sa
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from app.api.metrics import LedgerCollector
from app.api.service import OpenService
from app.contract.frozen import Frozen

router = APIRouter(tags=["health"])


class Health(Frozen):
    """All is well; anything else is a problem."""

    status: Literal["ok"] = "ok"


@router.get("/livez")
async def livez() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz")
def readyz(service: OpenService) -> Health:
    """The ledger and the store answer. The bell is not asked: nothing is lost without it."""
    with service.database.read() as tx:
        tx.execute(sa.select(1))
    service.blobs.check()
    return Health()


@router.get("/metrics", response_class=Response)
def metrics(service: OpenService) -> Response:
    """What the ledger knows, for Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(service.database))
    return Response(generate_latest(registry), 200, {"Cache-Control": "no-store"}, CONTENT_TYPE_LATEST)
