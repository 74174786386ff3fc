"""Stand-ins for the outside services a delivery business calls, with the latencies and failures those have.

`EARLYBIRD_OUTAGES=off` leaves the failures out.
"""

import asyncio
import math
import os
import random

OUTAGES = os.environ.get("EARLYBIRD_OUTAGES") != "off"


class PaymentDeclined(Exception):  # noqa: N818 - the customer's problem, not an error of ours
    pass


class PaymentProviderError(Exception):
    pass


async def _take(median_seconds: float, spread: float = 0.5) -> None:
    """Network calls are lognormal: mostly quick, sometimes much slower."""
    await asyncio.sleep(random.lognormvariate(math.log(median_seconds), spread))


async def charge(cents: int) -> str:
    """Charge a card. Returns the provider's reference."""
    await _take(0.025)
    chance = random.random() if OUTAGES else 1.0
    if chance < 0.02:
        raise PaymentProviderError("payment provider answered 503")
    if chance < 0.04:
        raise PaymentDeclined(f"card declined for {cents / 100:.2f}")
    return f"ch_{random.getrandbits(64):016x}"


async def store_photo(delivery_id: str) -> str:
    """Keep the courier's proof of delivery. Returns its address."""
    await _take(0.015)
    if OUTAGES and random.random() < 0.04:
        raise TimeoutError(f"photo storage did not answer for delivery {delivery_id}")
    return f"photos/{delivery_id}.jpg"


async def render_report(rows: int) -> str:
    """Typeset a report: the slow service everybody knows. Returns where to download it."""
    await _take(0.7)
    return f"reports/{rows}-customers.pdf"


async def send_email(address: str, subject: str) -> None:
    await _take(0.2)
