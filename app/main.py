"""The front end as an ASGI application. It never loads a tensor."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from app.api import artifacts, capabilities, events, health, jobs, problems, results, uploads
from app.api.document import Documented
from app.api.service import Service
from app.api.trace import Trace
from app.ledger import schema, tenants
from app.settings import Settings, read_settings

# That ask the ledger at once. More of them would share the same processor and only make each other late.
THREADS = 8


def create_app(settings: Settings) -> FastAPI:
    """The application. Its start raises `SettingsError` where the ledger or the store cannot be used."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        service = await run_in_threadpool(_open, settings)
        app.state.service = service
        gc.collect()
        gc.freeze()  # what is there by now stays; to walk through it again and again stops all requests for 0.1 s
        yield
        await service.rates.close()
        await run_in_threadpool(service.close)

    app = Documented(
        title="model-sanitizer",
        version=version("model-sanitizer"),
        summary="Finds and removes backdoors in image classifiers, without ever seeing the trigger.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.locked = settings.auth != "off"
    routers = [part.router for part in (jobs, events, results, artifacts, uploads, capabilities, health)]
    for router in routers:
        app.include_router(router)
    problems.install(app, (route for router in routers for route in router.routes))
    app.add_middleware(Trace)
    return app


def serving() -> FastAPI:
    """The application with the settings of the environment, for `uvicorn --factory app.main:serving`."""
    return create_app(read_settings())


def _open(settings: Settings) -> Service:
    service = Service.open(settings)
    schema.check(service.database)
    with service.database.write() as tx:
        tenants.ensure(tx, tenants.LOCAL)
    return service
