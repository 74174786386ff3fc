"""A payment provider: a process that the example calls, and that can be stopped, or slowed down by a file."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from fastapi import FastAPI

app = FastAPI()
SLOWNESS = Path(os.environ["PROVIDER_SLOWNESS"])


@app.post("/charges")
async def charge() -> dict[str, str]:
    with suppress(FileNotFoundError):
        await asyncio.sleep(float(SLOWNESS.read_text()))  # noqa: ASYNC240 - it takes microseconds
    return {"id": "ch_1"}
