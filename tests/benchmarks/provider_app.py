"""A payment provider: a process that the example calls, and that can be stopped."""

from fastapi import FastAPI

app = FastAPI()


@app.post("/charges")
async def charge() -> dict[str, str]:
    return {"id": "ch_1"}
