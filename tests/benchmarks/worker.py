"""One long-lived process per variant: does what it is told, line by line, and answers with what it cost.

Started as `python -m tests.benchmarks.worker VARIANT ROUTES`. Each line of standard input is a JSON list: the name of a
function of `operations` and its keyword arguments; each line of the answer is JSON. It ends when its input closes.
"""

import asyncio
import gc
import json
import os
import sys
from pathlib import Path

from tests.benchmarks import operations, setups
from tests.benchmarks.client import Client
from tests.benchmarks.operations import Host


def main() -> None:
    """Serve until the input ends."""
    # Whatever the libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    name, routes = sys.argv[1], int(sys.argv[2])
    asyncio.run(_serve(getattr(setups, name)(routes), routes, answers.write))
    # The answers are given; exporters that still wait for a closed receiver have nothing more to say.
    os._exit(0)


async def _serve(instrumented: setups.Instrumented, routes: int, answer: object) -> None:
    assert callable(answer)
    client = Client(instrumented.app)
    await client.start()
    host = Host(client, instrumented, routes)
    # What was imported is no garbage: it is not looked at again before each measurement.
    gc.collect()
    gc.freeze()
    answer(json.dumps({"ready": Path(sys.prefix).name}) + "\n")
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, arguments = json.loads(line)
        answer(json.dumps(await getattr(operations, name)(host, **arguments)) + "\n")
    await client.stop()


if __name__ == "__main__":
    main()
