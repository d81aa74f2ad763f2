"""What the service understands, how much of it, and how much of that the caller uses."""

from fastapi import APIRouter
from pydantic import Field

from app.api.service import OpenService, Tenant
from app.contract.capabilities import CAPABILITIES, Capabilities
from app.contract.limits import InputLimits
from app.contract.tenant import TenantUsage
from app.ledger import tenants
from app.settings import Limits

router = APIRouter(prefix="/v1", tags=["discovery"])


class Published(Limits):
    """Every limit that a caller can meet."""

    reading: InputLimits = Field(description="what is read of an uploaded file at most")
    stall_s: float = Field(description="a job without any progress for longer is ended")
    deadline_s: float = Field(description="a job that runs for longer is ended")
    max_losses: int = Field(description="workers that a job may cost before it is called poisoned")


@router.get("/capabilities")
async def capabilities() -> Capabilities:
    """Formats, architectures, detectors, and the options of every kind of job."""
    return CAPABILITIES


@router.get("/limits")
async def limits(service: OpenService) -> Published:
    """What one request and one job may ask for."""
    settings = service.settings
    clocks = {name: getattr(settings.clocks, name) for name in ("stall_s", "deadline_s", "max_losses")}
    return Published(**dict(settings.limits), reading=settings.reading, **clocks)


@router.get("/usage")
def usage(service: OpenService, tenant: Tenant) -> TenantUsage:
    """What you may have at once, and what you have of it now."""
    with service.database.read() as tx:
        return tenants.everyone(tx, tenant)[0]
