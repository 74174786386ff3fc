"""Stand-ins for the external services of a delivery business, with realistic latencies and failures.

`EARLYBIRD_OUTAGES=off` switches the failures off.
"""

import asyncio
import math
import os
import random

OUTAGES = os.environ.get("EARLYBIRD_OUTAGES") != "off"


class PaymentDeclined(Exception):  # noqa: N818 - a result of the payment, no error
    pass


class PaymentProviderError(Exception):
    pass


async def _take(median_seconds: float, spread: float = 0.5) -> None:
    """Sleep for a lognormal time, as network calls take it: mostly short, sometimes much longer."""
    await asyncio.sleep(random.lognormvariate(math.log(median_seconds), spread))


async def charge(cents: int) -> str:
    """Charge a card; returns the provider's reference."""
    await _take(0.025)
    chance = random.random() if OUTAGES else 1.0
    if chance < 0.02:
        raise PaymentProviderError("payment provider answered 503")
    if chance < 0.04:
        raise PaymentDeclined(f"card declined for {cents / 100:.2f}")
    return f"ch_{random.getrandbits(64):016x}"


async def store_photo(delivery_id: str) -> str:
    """Store the courier's proof of delivery; returns its path."""
    await _take(0.015)
    if OUTAGES and random.random() < 0.04:
        raise TimeoutError(f"photo storage did not answer for delivery {delivery_id}")
    return f"photos/{delivery_id}.jpg"


async def render_report(rows: int) -> str:
    """Typeset a report, which is slow; returns the path of the download."""
    await _take(0.7)
    return f"reports/{rows}-customers.pdf"


async def send_email(address: str, subject: str) -> None:
    await _take(0.2)
