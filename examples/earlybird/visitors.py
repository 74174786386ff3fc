"""`Visitors`: the requests of customers, couriers and the back office to the EarlyBird API, in a realistic mix."""

import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import httpx

NO_ANSWER = 0
"""The status that counts requests without an answer."""

UNMATCHED = "(unmatched)"
"""The monitoring's name for the route of paths that the API does not have."""


@dataclass
class Report:
    """The number of answers by (method, route, status)."""

    answers: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.answers.total()

    @property
    def errors(self) -> int:
        return sum(count for (_, _, status), count in self.answers.items() if status >= 500)

    def by_route(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (_, route, _), count in self.answers.items():
            counts[route] += count
        return counts

    def by_status(self) -> Counter[int]:
        counts: Counter[int] = Counter()
        for (_, _, status), count in self.answers.items():
            counts[status] += count
        return counts


@dataclass
class Customer:
    token: str
    subscription: str = ""


@dataclass(frozen=True)
class Order:
    id: str
    delivery_id: str
    customer: Customer


Action = Callable[[random.Random], Coroutine[Any, Any, None]]


class Visitors:
    """Sends requests to one EarlyBird API. The seed decides about each request, not the answers."""

    def __init__(self, client: httpx.AsyncClient, report: Report, *, seed: int | None, staff_token: str) -> None:
        self.report = report
        self._client = client
        self._random = random.Random(seed)
        self._staff_token = staff_token
        self._customers: deque[Customer] = deque(maxlen=500)
        self._orders: deque[Order] = deque(maxlen=200)
        self._deliveries: deque[str] = deque(maxlen=200)
        mix: dict[Action, int] = {
            self.list_orders: 22,
            self.get_order: 20,
            self.create_order: 16,
            self.confirm_delivery: 10,
            self.list_deliveries: 8,
            self.change_status: 5,
            self.list_subscriptions: 5,
            self.subscribe: 4,
            self.pause_subscription: 2,
            self.profile: 3,
            self.sign_up: 2,
            self.run_billing: 2,
            self.billing_report: 2,
            self.send_nonsense: 2,
            self.ask_without_token: 1,
            self.probe: 1,
        }
        self._actions, self._weights = list(mix), list(mix.values())

    def next_request(self) -> Coroutine[Any, Any, None]:
        """The next request of the mix, with a random generator of its own: the order of answers changes nothing."""
        (action,) = self._random.choices(self._actions, self._weights)
        return action(random.Random(self._random.getrandbits(64)))

    def pause_before_next(self, rate: float) -> float:
        """Seconds until the next request; independent visitors arrive at exponentially distributed intervals."""
        return self._random.expovariate(rate)

    # Customers

    async def sign_up(self, rng: random.Random) -> None:
        new = {
            "email": f"{uuid4().hex}@example.com",
            "name": "Robin Lark",
            "address": f"{rng.randint(1, 99)} Dawn Road",
        }
        answer = await self._send("POST", "/api/users/", json=new)
        if answer is not None and answer.status_code == 201:
            self._customers.append(Customer(answer.json()["token"]))

    async def profile(self, rng: random.Random) -> None:
        await self._send("GET", "/api/users/me", token=self._customer(rng).token)

    async def create_order(self, rng: random.Random) -> None:
        customer = self._customer(rng)
        order = {"items": _items(rng), "deliver_on": str(_tomorrow())}
        answer = await self._send("POST", "/api/orders/", token=customer.token, json=order)
        if answer is not None and answer.status_code == 201:
            placed = Order(answer.json()["id"], answer.json()["delivery_id"], customer)
            self._orders.append(placed)
            self._deliveries.append(placed.delivery_id)

    async def list_orders(self, rng: random.Random) -> None:
        path = f"/api/orders/?limit={rng.choice((5, 20, 100))}"
        await self._send("GET", path, "/api/orders/", self._customer(rng).token)

    async def get_order(self, rng: random.Random) -> None:
        order = self._order(rng)
        order_id = order.id if rng.random() < 0.97 else "no-such-order"
        await self._send("GET", f"/api/orders/{order_id}", "/api/orders/{order_id}", order.customer.token)

    async def subscribe(self, rng: random.Random) -> None:
        customer = self._customer(rng)
        plan = {"items": _items(rng), "days": rng.sample(("mon", "tue", "wed", "thu", "fri"), 3)}
        answer = await self._send("POST", "/api/subscriptions/", token=customer.token, json=plan)
        if answer is not None and answer.status_code == 201:
            customer.subscription = answer.json()["id"]

    async def list_subscriptions(self, rng: random.Random) -> None:
        await self._send("GET", "/api/subscriptions/", token=self._customer(rng).token)

    async def pause_subscription(self, rng: random.Random) -> None:
        customer = self._customer(rng)
        path = f"/api/subscriptions/{customer.subscription or 'none'}"
        change = {"paused": rng.random() < 0.5}
        await self._send("PATCH", path, "/api/subscriptions/{subscription_id}", customer.token, json=change)

    # Couriers and the back office

    async def list_deliveries(self, rng: random.Random) -> None:
        path = f"/api/deliveries/?deliver_on={_tomorrow()}"
        await self._send("GET", path, "/api/deliveries/", self._staff_token)

    async def confirm_delivery(self, rng: random.Random) -> None:
        delivery = self._deliveries.popleft() if self._deliveries else "none"
        path = f"/api/deliveries/{delivery}/confirm"
        received = {"received_by": "Robin Lark"}
        await self._send("POST", path, "/api/deliveries/{delivery_id}/confirm", self._staff_token, json=received)

    async def change_status(self, rng: random.Random) -> None:
        change = {"status": rng.choice(("packed", "on_the_way"))}
        path = f"/api/orders/{self._order(rng).id}/status"
        await self._send("PATCH", path, "/api/orders/{order_id}/status", self._staff_token, json=change)

    async def run_billing(self, rng: random.Random) -> None:
        await self._send("POST", "/api/billing/run", token=self._staff_token, json={"max_orders": rng.randint(1, 5)})

    async def billing_report(self, rng: random.Random) -> None:
        await self._send("GET", "/api/billing/report", token=self._staff_token)

    # Strangers

    async def send_nonsense(self, rng: random.Random) -> None:
        nonsense = {"items": [{"product": "milk", "quantity": -rng.randint(1, 9)}], "deliver_on": "tomorrow"}
        await self._send("POST", "/api/orders/", token=self._customer(rng).token, json=nonsense)

    async def ask_without_token(self, rng: random.Random) -> None:
        await self._send("GET", "/api/orders/")

    async def probe(self, rng: random.Random) -> None:
        await self._send("GET", rng.choice(("/wp-login.php", "/.git/config", f"/{rng.getrandbits(32):x}")), UNMATCHED)

    def _customer(self, rng: random.Random) -> Customer:
        return rng.choice(self._customers) if self._customers else Customer("nobody")

    def _order(self, rng: random.Random) -> Order:
        return rng.choice(self._orders) if self._orders else Order("none", "none", self._customer(rng))

    async def _send(
        self, method: str, path: str, route: str = "", token: str = "", json: object = None
    ) -> httpx.Response | None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._client.request(method, path, headers=headers, json=json)
        except httpx.TransportError:
            self.report.answers[method, route or path, NO_ANSWER] += 1
            return None
        self.report.answers[method, route or path, answer.status_code] += 1
        return answer


def _items(rng: random.Random) -> list[dict[str, object]]:
    products = rng.sample(("bread", "butter", "coffee", "eggs", "milk", "newspaper"), rng.randint(1, 4))
    return [{"product": product, "quantity": rng.randint(1, 4)} for product in products]


def _tomorrow() -> date:
    return datetime.now(timezone.utc).date() + timedelta(days=1)
