"""The examples of docs/messages.md, each as the page has it: an API that sends, a worker that works, a real broker."""

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from tests.integration.brokers import kafka, rabbitmq, redis
from tests.integration.servers import Server
from tests.otlp_sink import HttpSink
from tests.pages import ROOT, section
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(4 * PATIENCE)]

PAGE = "docs/messages.md"
API = """
import asyncio
from orders import *

async def api():
    await monitoring.start()
{call}
    await monitoring.stop()

asyncio.run(api())
"""
CALLS = {
    "celery": "place('o-7')",
    "aio-pika": """
async with await connect_robust(BROKER) as connection:
    channel = await connection.channel()
    await channel.declare_queue("orders", durable=True)
    await place(channel, 'o-7')
""",
    "faststream": """
async with broker:
    await broker.start()
    await place('o-7')
""",
    "kafka": """
async with AIOKafkaProducer(bootstrap_servers=BROKER) as producer:
    await place(producer, 'o-7')
""",
    "arq": """
from arq import create_pool
await place(await create_pool(WorkerSettings.redis_settings), 'o-7')
""",
    "taskiq": """
await broker.startup()
await place('o-7')
await broker.shutdown()
""",
}
"""What the API does, by heading of the page."""
BROKERS: dict[str, tuple[str, Callable[[], AbstractContextManager[Server]]]] = {
    "amqp://localhost": ("amqp://127.0.0.1:{port}", rabbitmq),
    "localhost:9092": ("127.0.0.1:{port}", lambda: kafka("orders")),
    "redis://localhost:6379": ("redis://127.0.0.1:{port}", redis),
}
"""The addresses on the page, where the broker of the test is, and what starts it."""


def example(heading: str) -> tuple[str, list[str]]:
    """The module of a section, and the command that starts its worker."""
    text = section(PAGE, heading)
    command = text.partition("The worker: `")[2].partition("`")[0]
    return text.partition("```python\n")[2].partition("```")[0], command.split()


@contextmanager
def working(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A worker, stopped as an orchestrator stops it; what it wrote is shown where the test fails."""
    with (folder / "worker.log").open("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
            process.terminate()
            process.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
            log.seek(0)
            print(log.read())  # noqa: T201


def spans_of(sink: HttpSink, name: str) -> list[Any]:
    return [span for span in sink.spans() if span.name == name]


@pytest.mark.parametrize("heading", CALLS)
def test_the_work_on_a_message_is_linked_to_who_sent_it(heading: str, tmp_path: Path) -> None:
    module, worker = example(heading)
    (address,) = (address for address in BROKERS if address in module)
    where, broker = BROKERS[address]
    with broker() as server, HttpSink() as sink:
        (tmp_path / "orders.py").write_text(module.replace(address, where.format(port=server.port)))
        (tmp_path / "api.py").write_text(API.format(call=indent(CALLS[heading], "    ")))
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_MONITORING_STORE": "memory",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        }
        program = Path(sysconfig.get_path("scripts")) / worker[0]
        command = [sys.executable, *worker[1:]] if worker[0] == "python3" else [str(program), *worker[1:]]
        subprocess.run([sys.executable, "api.py"], cwd=tmp_path, env=environment, check=True, timeout=2 * PATIENCE)
        with working(command, tmp_path, environment):
            eventually(lambda: spans_of(sink, "billing.run"), "the work arrives")
    (sent,) = spans_of(sink, "order.place")
    (work,) = spans_of(sink, "billing.run")
    assert [(link.trace_id, link.span_id) for link in work.links] == [(sent.trace_id, sent.span_id)]
    assert work.trace_id != sent.trace_id
    assert {a.key: a.value.string_value for a in work.attributes}["order.id"] == "o-7"
