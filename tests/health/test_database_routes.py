"""What a route does with the database is compared with its own requests, whatever else the service measures."""

from otel_monitoring import semconv as c
from otel_monitoring.health.database_routes import busiest_routes, routes_as_json
from otel_monitoring.metrics.database_work import BACKGROUND, OPERATION, REQUEST, CommandUse, DatabaseWork
from otel_monitoring.metrics.reader import SnapshotReader
from otel_monitoring.metrics.snapshot import AttributeValue
from otel_monitoring.metrics.window import History


def measured() -> History:
    reader, history = SnapshotReader(0.0), History(0.0, span=300.0, resolution=10.0)

    def record(name: str, value: float, attributes: dict[str, AttributeValue]) -> None:
        reader.direct(name).bind(attributes).record(value)

    for method, route in (("GET", "/orders"), ("POST", "/orders"), ("GET", "/a b"), ("GET", None), (None, "/orders")):
        request: dict[str, AttributeValue] = {c.HTTP_REQUEST_METHOD: method} if method else {}
        request |= {c.HTTP_ROUTE: route} if route else {}
        for status in (200, 404):
            record(c.HTTP_SERVER_REQUEST_DURATION, 1.0, {**request, c.HTTP_RESPONSE_STATUS_CODE: status})
        record(c.REQUEST_COMMANDS, 4, request)
        record(c.REQUEST_DATABASE_DURATION, 0.5, request)
    for _ in range(3):
        record(c.OPERATION_DURATION, 2.0, {c.OPERATION_NAME: "import"})
    record(c.OPERATION_COMMANDS, 6, {c.OPERATION_NAME: "import"})
    record(c.OPERATION_DATABASE_DURATION, 1.5, {c.OPERATION_NAME: "import"})
    history.add(reader.take(10.0))
    return history


def test_each_route_is_compared_with_its_own_requests() -> None:
    names = ("GET /orders", "POST /orders", "GET /a b", f"GET {c.UNMATCHED_ROUTE}", "None /orders", "GET /never")
    uses = [CommandUse(REQUEST, name, "find", "orders", 4, 0.5) for name in names]
    uses += [CommandUse(OPERATION, "import", "insert", "orders", 6, 1.5)]
    uses += [CommandUse(BACKGROUND, "GET /orders", "find", "orders", 1, 0.1)]
    found = {
        (one["kind"], one["name"]): (
            one["requests"],
            one["commands_per_request"]["avg"],
            one["database_time"]["avg"],
            one["share_percent"],
        )
        for one in routes_as_json(DatabaseWork.of(uses), measured())["routes"]
    }
    of_routes = {(REQUEST, name): (2, 2.0, 0.25, 25.0) for name in names[:-1]}
    assert found == {
        **of_routes,
        (REQUEST, "GET /never"): (0, 0.0, 0.0, None),
        (OPERATION, "import"): (3, 2.0, 0.5, 25.0),
        (BACKGROUND, "GET /orders"): (0, 0.0, 0.0, None),
    }


def test_a_route_of_other_processes_has_the_figures_that_were_measured() -> None:
    found = routes_as_json(DatabaseWork.of([CommandUse(REQUEST, "GET /orders", "find", "orders", 1, 0.1)]), measured())
    routes = {(one["kind"], one["name"]): one for one in found["routes"]}
    assert {name for _, name in routes} == {
        *("GET /orders", "POST /orders", "GET /a b", f"GET {c.UNMATCHED_ROUTE}", "None /orders", "import"),
    }
    assert (routes[REQUEST, "GET /orders"]["commands"], routes[REQUEST, "POST /orders"]["commands"]) == (4, 4)
    other = routes[OPERATION, "import"]
    assert (other["commands"], other["requests"], other["retries"], other["collections"]) == (6, 3, 0, [])
    assert (found["routes"][0]["name"], len(found["collections"])) == ("import", 1)


def test_the_busiest_comes_first() -> None:
    (source, figures), *_ = busiest_routes(measured().recent, 2)
    assert source == (OPERATION, "import")
    assert (figures["requests"], figures["share_percent"]) == (3, 25.0)
