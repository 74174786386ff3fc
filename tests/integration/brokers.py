"""Real brokers of messages for tests, each its own process on a free port of the loopback."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import unavailable
from tests.integration.builds import KAFKA
from tests.integration.servers import Server, made, running
from tests.ports import free_port

# The wrapper on the PATH would change to a user of its own, who cannot write into the test's folder.
_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@contextmanager
def rabbitmq() -> Iterator[Server]:
    """A running RabbitMQ of Debian."""
    epmd = shutil.which("epmd")
    if epmd is None or shutil.which("rabbitmq-server") is None:
        unavailable("no RabbitMQ: apt-get install rabbitmq-server")
    # Erlang's register of names would be started in the background, and stay: here it ends with the test.
    with running("epmd", [epmd, "-port", "{port}", "-address", "127.0.0.1"]) as names:
        environment = {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names.port),
            "HOME": "{directory}",
            "RABBITMQ_CONF_ENV_FILE": "{directory}/none",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": "{directory}/plugins",
            "RABBITMQ_LOG_BASE": "{directory}",
            "RABBITMQ_MNESIA_BASE": "{directory}",
            "RABBITMQ_NODENAME": "test-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": "{port}",
        }
        with running("RabbitMQ", [str(_RABBITMQ)], environment) as server:
            yield server


@contextmanager
def redis() -> Iterator[Server]:
    """A running Redis of Debian, which keeps nothing."""
    executable = shutil.which("redis-server")
    if executable is None:
        unavailable("no Redis: apt-get install redis-server")
    with running("Redis", [executable, "--port", "{port}", "--bind", "127.0.0.1", "--save", ""]) as server:
        yield server


@contextmanager
def kafka(topic: str) -> Iterator[Server]:
    """A running broker that speaks Kafka's protocol, with one topic; built first, once, where it has not been."""
    with running("Kafka", [str(made(KAFKA)), "{port}", topic]) as server:
        yield server
