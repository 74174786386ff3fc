"""Runs a worker: a process without a web application, monitored from its start to its end."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from examples.earlybird import events
from examples.earlybird.database import Document
from otel_monitoring import MonitoringService

Prepare = Callable[[MonitoringService, AsyncDatabase[Document]], events.Handler]


async def serve(name: str, kind: str, prepare: Prepare) -> None:
    """Handle the events of a kind until SIGTERM or Ctrl-C.

    Args:
        name: The service's name.
        kind: The kind of events.
        prepare: Makes the handler; called once.
    """
    logging.getLogger("earlybird").setLevel(logging.INFO)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    uri = os.environ.get("MONGODB_URI", "mongodb://localhost:27017")
    client: AsyncMongoClient[Document] = AsyncMongoClient(uri, tz_aware=True, serverSelectionTimeoutMS=2000)
    db = client["earlybird"]
    monitoring = MonitoringService(db, check_interval=5, service_name=name, baggage_keys="order.id")
    await monitoring.start()
    try:
        await events.handle_all(db, kind, prepare(monitoring, db), stop)
    finally:
        await monitoring.stop()
        await client.close()
