"""No secret and no personal data passes the Collector, wherever it hides: not to a backend, not into a queue file."""

import re
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration import otlp
from tests.integration.collector import CONFIG, Collector, collecting
from tests.integration.languages import common
from tests.otlp_sink import HttpSink

pytestmark = pytest.mark.integration

# By the form they are recognised by; each is a sentinel that nothing else contains.
CANARIES = {
    "e-mail": "canary.person@example.com",
    "encoded e-mail": "canary.person%40example.com",
    "card": "4111 1111 1111 1111",
    "card without spaces": "5500005555555559",
    "token": "Bearer canaryTokenabcdef",
    "json web token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl",
    "password": "password=canary-hunter2",
    "password in JSON": '{"user": 1, "passwd": "canary hunter2"}',
    "URI": "mongodb://canary:hunter2@db.example.com/shop",
    "cookie": "Cookie: session=canarysession; theme=canarydark",
    "AWS key": "AKIACANARY0123456789",
    "GitHub token": "ghp_canary0123456789abcdefghij0123456789",
    "GitHub token of words": "ghp_canary_canary_canary_canary",
    "GitLab token of words": "glpat-canary-canary-canary",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIcanary\n-----END RSA PRIVATE KEY-----",
    "IBAN": "DE89 3704 0044 0532 0130 00",
    "IBAN with dashes": "DE89-3704-0044-0532-0130-00",
    "telephone": "+49 170 1234567",
    "telephone with a slash": "+49 170/1234567",
    "e-mail beyond ASCII": "jürgen.müller@exämple.de",
    "URI with an at sign in the password": "https://ana:hunter@2canary@shop.example.com/",
    "HTTP credentials of any scheme": "Authorization: Token canaryquokka",
    "HTTP credentials of several parts": "authorization: Custom user=canary, signature=canaryquokka",
    "list of passwords in JSON": '{"passwords": ["canary1", "canary 2"], "n": 1}',
    "object of credentials in JSON": '{"credentials": {"user": "canary", "key": "hunter2"}, "n": 1}',
    "encoded JSON": "%22password%22%3A%22canary%22",
    "JCB card": "3530 1113 3330 0000",
    "Diners card": "3056 930902 5904",
    "Maestro card": "5018000000000009",
    "card with other spaces": "4111\xa01111\xa01111  1111",
    "Google key": "AIzaSycanary012345678901234567890canary",
    "OpenAI key": "sk-proj-canarycanarycanarycanary",
    "Stripe webhook secret of words": "whsec_canaryquokkaabc/canaryquokkaabc",
    "SendGrid key of digits": f"SG.{'5adc0ffee0b' * 2}.{'5adc0ffee0b' * 4}",
    "IBAN of letters": "DE89-QUOKKAQUOKKA",
    "npm token": "npm_canarycanarycanarycanarycanarycanary",
    "Slack webhook": "https://hooks.slack.com/services/T0CANARY/B0CANARY/canary",
    "storage account": "AccountName=shop;AccountKey=canary0123456789+/==;EndpointSuffix=core.windows.net",
    "encrypted private key": (
        "-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-256-CBC,0F\n\nMIIcanary-\n-----END RSA PRIVATE KEY-----"
    ),
    "PGP key": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nMIIcanary\n-----END PGP PRIVATE KEY BLOCK-----",
}
# What must not be found of them. Digits alone would be found in times and ports, now and then.
TRACES = [
    *("canary", "CANARY", "hunter2", "4111 1111", "550000555", "eyJhb", "MIIc", "3704 0044", "170 1234"),
    *("c2lnbmF0dXJl", "YW5hcnk", "rgen", "ller@", "mple.de", "3530 1113"),
    *("3056 ", " 930902", "5018000000", "4111\xa01111", "quokka", "QUOKKA", "5adc0ffee"),
]


@pytest.fixture(scope="module")
def sink() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def collector(sink: HttpSink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("redaction")
    with collecting(folder, "base", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as collector:
        yield collector


def hidden(text: str) -> list[Any]:
    """One request per signal with `text` in every place that can hold a value."""
    content = {"note": text, "list": [text], "map": {"deep": {"er": text}}, "http.route": text, "error.type": text}
    resource = {**otlp.RESOURCE, "owner": text, "nested": {"by": [text]}}
    event = Span.Event(name=text, attributes=otlp.attributes({"exception.message": text, "exception.stacktrace": text}))
    made = otlp.span(f"GET {text}", content, error=text, events=[event], trace_state=f"vendor={text}")
    spans = otlp.traces(made, resource=resource)
    spans.resource_spans[0].scope_spans[0].scope.attributes.extend(otlp.attributes(content))
    records = otlp.logs(
        text, f"user said {text}.", {"message": text, "list": [text]}, [text], resource=resource, **content
    )
    for record in records.resource_logs[0].scope_logs[0].log_records:
        record.event_name = text
        record.severity_text = text
    start = time.time_ns()
    counter = otlp.counter("orders", 3, start, **content)
    exemplar = counter.sum.data_points[0].exemplars.add(as_int=1, time_unix_nano=start)
    exemplar.filtered_attributes.extend(otlp.attributes(content))
    points = otlp.metrics(counter, otlp.histogram("sizes", [1, 2], start, **content), resource=resource)
    return [("traces", spans), ("logs", records), ("metrics", points)]


def arrived(sink: HttpSink, before: int, requests: int) -> list[Any]:
    sink.wait(lambda s: len(s.requests) >= before + requests)
    return [received.message for received in sink.requests[before:]]


@pytest.mark.parametrize("kind", CANARIES)
def test_what_has_the_form_of_a_secret_arrives_nowhere(collector: Collector, sink: HttpSink, kind: str) -> None:
    before = len(sink.requests)
    for signal, message in hidden(CANARIES[kind]):
        collector.send(signal, message)
    text = "".join(str(message) for message in arrived(sink, before, 3))
    assert not [trace for trace in TRACES if trace in text]
    assert text.count("****") > 20


# A client says of itself what it likes.
AGENTS = [
    "CANARY/5.0 (X11; Linux x86_64)",
    "CANARY Mozilla/5.0 (X11; Linux x86_64)",
    "Mozilla/CANARY (X11; Linux x86_64)",
    "Mozilla/5.0 (CANARY; Linux x86_64) AppleWebKit/537.36",
    "Mozilla/5.0 (CANARY) AppleWebKit/537.36",
    "Mozilla/5.0 (Linux; Android 14 CANARY; wv) AppleWebKit/537.36",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/CANARY) AppleWebKit/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:CANARY) Gecko/20100101",
    "Mozilla/5.0 (X11; Linux x86_64) CANARY/537.36 (KHTML, like Gecko)",
    "Mozilla/5.0 (X11; Linux x86_64) Chrome/CANARY Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64) Chrome/138.0.CANARY Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64) Chrome/138.0.0.0 CANARY",
]


@pytest.mark.parametrize("kind", CANARIES)
def test_a_secret_anywhere_in_a_user_agent_is_masked(collector: Collector, sink: HttpSink, kind: str) -> None:
    before = len(sink.requests)
    agents = [agent.replace("CANARY", CANARIES[kind]) for agent in AGENTS]
    collector.send("traces", otlp.traces(*(otlp.span("GET", {"user_agent.original": agent}) for agent in agents)))
    spans = arrived(sink, before, 1)[0].resource_spans[0].scope_spans[0].spans
    received = [str(otlp.read(span.attributes)["user_agent.original"]) for span in spans]
    assert len(received) == len(AGENTS)
    assert not [text for text in received if "****" not in text or any(trace in text for trace in TRACES)]


def test_texts_that_are_no_attributes_are_searched_one_without_the_other(collector: Collector, sink: HttpSink) -> None:
    before = len(sink.requests)
    secret = CANARIES["password"]
    alone = [
        otlp.span(f"GET {secret}"),
        otlp.span("GET /", error=secret),
        otlp.span("GET /", trace_state=f"vendor={secret}"),
    ]
    collector.send("traces", otlp.traces(*alone, otlp.span("GET /")))
    spans = arrived(sink, before, 1)[0].resource_spans[0].scope_spans[0].spans
    texts = [(span.name, span.status.message, span.trace_state) for span in spans]
    assert texts == [("GET ****", "", ""), ("GET /", "****", ""), ("GET /", "", "vendor=****"), ("GET /", "", "")]
    assert not [span for span in spans if span.attributes], "what carried them is gone"


SECRET_NAMES = [
    *("password", "http.request.header.authorization", "http.request.header.cookie", "client_secret", "api-key"),
    *("X-Api-Key", "user.email", "enduser.id", "session.id", "access_token", "phone_number", "card_number"),
    *(
        "userName",
        "user_id",
        "customer.first_name",
        "lastName",
        "Surname",
        "delivery.street",
        "postal_code",
        "zip-code",
    ),
    *("passport.number", "order.pin", "OTP", "card.cvc", "tax_id", "ip_address", "dob", "PassWord", "ACCOUNT_KEY"),
    *("client.address", "http.request.header.x-forwarded-for", "db.query.parameter.name", "process.command_line"),
    *("passphrase", "door.passcode", "db.pwd", "my_secret", "my-token", "private_key", "shared.key", "access-key"),
    *("credentials", "signature", "cvv", "ssn", "iban", "e-mail", "birth_date", "enduser.role", "real-ip", "client.ip"),
    *("user.full_name", "user_hash", "full_name", "given-name", "familyName", "middle.name", "maiden_name", "nickname"),
    *("post_code", "postcode", "zipcode", "national.id", "db.operation.parameter.0", "process.command_args", "pin"),
]


def test_what_is_called_a_secret_is_masked_whatever_it_is(collector: Collector, sink: HttpSink) -> None:
    before = len(sink.requests)
    content: dict[str, Any] = {f"{name}": "plain" for name in SECRET_NAMES} | {"my.password.number": 991199}
    collector.send("traces", otlp.traces(otlp.span("a", content), resource={"service.name": "x", **content}))
    collector.send("logs", otlp.logs({"login": content}, **content))
    collector.send("metrics", otlp.metrics(otlp.counter("c", 1, time.time_ns(), **content)))
    text = "".join(str(message) for message in arrived(sink, before, 3))
    assert "plain" not in text
    assert "991199" not in text


SECRETS_BY_NAME = [
    *(
        "passwd",
        "passphrase",
        "pwd",
        "secret",
        "token",
        "apikey",
        "api_key",
        "private-key",
        "account_key",
        "ACCESS-KEY",
    ),
    *("sharedkey", "authorization", "Credential", "session_id", "sessionid"),
]
CARDS = [
    *("4111111111111111", "5500 0055 5555 5559", "6011-1111-1111-1117", "2221 0000 0000 0009", "2720990000000007"),
    *("3530111333300000", "30569309025904", "3411 111111 1111", "3714-496353-98431", "3670 010200 0000"),
]


def test_every_word_for_a_secret_and_every_kind_of_card_is_found_in_a_text(
    collector: Collector, sink: HttpSink
) -> None:
    before = len(sink.requests)
    named = [f"{start}{name}{end}canary" for name in SECRETS_BY_NAME for start in ("", "my_") for end in ("=", "s: ")]
    texts = [f"it was {text}" for text in [*named, *CARDS]]
    collector.send("traces", otlp.traces(*(otlp.span("a", {"note": text}) for text in texts)))
    spans = arrived(sink, before, 1)[0].resource_spans[0].scope_spans[0].spans
    notes = [otlp.read(span.attributes)["note"] for span in spans]
    assert notes == ["it was ****"] * len(texts)


STATEMENTS = {
    '{"find": "users", "filter": {"email": "canary", "age": {"$gt": 4242}, "tags": ["canary", 4242]}}': (
        '{"find": ?, "filter": {"email": ?, "age": {"$gt": ?}, "tags": [?, ?]}}'
    ),
    '{find: "users", filter: {name: "canary: \\"canary\\"", n: Long(4242)}}': "{find: ?, filter: {name: ?, n: ?}}",
    "{'find': 'users', 'filter': {'name': 'canary: it\\'s'}}": "{'find': ?, 'filter': {'name': ?}}",
    'db.users.find({name: /canary/i, broken: "canary, canary: x': "?{name: ?, broken: ?",
    # Other languages have no keys, but colons.
    "SELECT 'canary: x' FROM users WHERE n = 4242::int -- canary": "? ? ? ? ? ? ? ?:: ? ?",
    "HSET canary:profile name canary": "? ?: ? ?",
    "name:canary AND note: canary": "?: ? ?: ?",
    "{name: `canary x`, b: /a canary:x/}": "{name: ? ?, b: ? ?:}",
}


@pytest.mark.parametrize("key", ["db.query.text", "db.statement"])
def test_statements_lose_every_value_and_keep_their_shape(collector: Collector, sink: HttpSink, key: str) -> None:
    before = len(sink.requests)
    collector.send("traces", otlp.traces(*(otlp.span("find users", {key: text}) for text in STATEMENTS)))
    message = arrived(sink, before, 1)[0]
    spans = message.resource_spans[0].scope_spans[0].spans
    assert [otlp.read(span.attributes)[key] for span in spans] == list(STATEMENTS.values())


def test_statements_and_urls_lose_their_values_wherever_they_are_attributes(
    collector: Collector, sink: HttpSink
) -> None:
    before = len(sink.requests)
    urls = {"url.full": "https://x/?n=canary", "http.url": "https://x/?n=canary", "http.target": "/?n=canary"}
    content: dict[str, Any] = {
        "url.query": "n=canary",
        **urls,
        **dict.fromkeys(("db.query.text", "db.statement"), "{n: canary}"),
    }
    event = Span.Event(name="asked", attributes=otlp.attributes(content))
    collector.send("traces", otlp.traces(otlp.span("a", content, events=[event])))
    collector.send("logs", otlp.logs("asked", **content))
    points = [otlp.counter("c", 1, time.time_ns(), **content), otlp.histogram("h", [1], time.time_ns(), **content)]
    collector.send("metrics", otlp.metrics(*points))
    text = "".join(str(message) for message in arrived(sink, before, 3))
    assert "canary" not in text
    assert text.count("{n: ?}") == 2 * text.count("n=****") == 10


def test_urls_lose_the_values_of_their_parameters(collector: Collector, sink: HttpSink) -> None:
    before = len(sink.requests)
    content = {
        "url.path": "/users/canary%40example.com/orders/17",
        "url.query": "name=canary&page=4242&canary@example.com",
        "url.full": "https://canary:hunter2@shop.example.com/orders?name=canary#canary",
        "http.url": "https://shop.example.com/orders?name=canary",
        "http.target": "/orders?name=canary",
    }
    collector.send("traces", otlp.traces(otlp.span("GET /users/{id}", content)))
    span = arrived(sink, before, 1)[0].resource_spans[0].scope_spans[0].spans[0]
    assert otlp.read(span.attributes) == {
        "url.path": "/users/****/orders/17",
        "url.query": "name=****&page=****&****",
        "url.full": "https****shop.example.com/orders?****",
        "http.url": "https://shop.example.com/orders?****",
        "http.target": "/orders?****",
    }


def test_the_address_of_a_client_is_masked_that_of_a_database_is_not(collector: Collector, sink: HttpSink) -> None:
    before = len(sink.requests)
    content = {"network.peer.address": "10.1.2.3"}
    server, client = otlp.span("GET /", content), otlp.span("find orders", content, kind=Span.SPAN_KIND_CLIENT)
    collector.send("traces", otlp.traces(server, client))
    spans = arrived(sink, before, 1)[0].resource_spans[0].scope_spans[0].spans
    assert [otlp.read(span.attributes)["network.peer.address"] for span in spans] == ["****", "10.1.2.3"]


HARMLESS: dict[str, Any] = {
    "http.route": "/api/orders/{order_id}",
    "url.path": "/api/orders/665f1c2ab3d4e5f60718293a",
    "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "http.response.status_code": 404,
    "gen_ai.usage.input_tokens": 1234567,
    "code.function.name": "place",
    "shipping.pinned": "yes",
    "unit.namespace": "shop",
    "uuid": "e509967f-e957-4c7c-879a-dc9c2ed5424f",
    "time": 1764112345123456789,
    "ratio": 0.25,
    "ok": True,
    "error.type": "ValueError",
    "list": ["a", "b"],
}


def test_what_is_harmless_arrives_as_it_was(collector: Collector, sink: HttpSink) -> None:
    before = len(sink.requests)
    sent = otlp.span("GET /api/orders/{order_id}", HARMLESS, error="order 17 not found", trace_state="ot=th:8")
    collector.send("traces", otlp.traces(sent))
    collector.send("logs", otlp.logs("order 17 stored in 3.4 ms at 2026-11-25T22:50:14Z", **HARMLESS))
    span, log = arrived(sink, before, 2)
    received = span.resource_spans[0].scope_spans[0].spans[0]
    assert received == sent
    record = log.resource_logs[0].scope_logs[0].log_records[0]
    assert record.body.string_value == "order 17 stored in 3.4 ms at 2026-11-25T22:50:14Z"
    assert record.severity_text == "INFO"
    assert otlp.read(record.attributes)["url.path"] == HARMLESS["url.path"]


def test_no_queue_file_holds_what_was_hidden(tmp_path: Path) -> None:
    with (
        HttpSink("503") as sink,
        collecting(tmp_path, "base", "backend-otlp", OTLP_ENDPOINT=sink.endpoint) as collector,
    ):
        for text in CANARIES.values():
            for signal, message in hidden(text):
                collector.send(signal, message)
        collector.kill()
        files = [path.read_bytes() for path in collector.storage.rglob("*") if path.is_file()]
    assert any(b"EarlyBird" in data or b"orders" in data for data in files), "they are the queues"
    assert not [trace for trace in TRACES if any(trace.encode() in data for data in files)]
    assert not [trace for trace in TRACES if trace in collector.output]


PROCESSORS = yaml.safe_load((CONFIG / "base.yaml").read_text())["processors"]
REDACTION = PROCESSORS["redaction/values"]
NAMES = [
    found[1].replace("\\\\", "\\")
    for found in re.finditer(
        r'IsMatch\(span\.name, "(.*?)"\)', str(PROCESSORS["transform/redaction"]).replace("\\\\", "\\")
    )
]


def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("$$", "$"), re.ASCII)


ALLOWED = [compiled(pattern) for pattern in (*NAMES, *REDACTION["allowed_values"])]
BLOCKED = [compiled(pattern) for pattern in REDACTION["blocked_values"]]


def test_span_names_that_skip_the_search_are_looked_at_here_too() -> None:
    skipped = [compiled(name) for name in NAMES]
    assert [bool(pattern.search("find order_items")) for pattern in skipped] == [True, True]
    assert [bool(pattern.search("GET /api/orders/{order_id}")) for pattern in skipped] == [False, True]
    for name in ("Bearer abcdef", "basic abcdef", "digest abcdef"):
        assert not any(pattern.search(name) for pattern in skipped)


@pytest.mark.parametrize("allowed", ALLOWED, ids=lambda pattern: pattern.pattern[:20])
def test_no_value_that_skips_the_search_could_be_found_by_it(allowed: re.Pattern[str]) -> None:
    whole = allowed.pattern.replace("=", "")  # password=**** is found, and has lost its value
    found = {blocked.pattern: common(whole, blocked.pattern) for blocked in BLOCKED}
    assert not {pattern: text for pattern, text in found.items() if text is not None}


@pytest.mark.parametrize(
    ("whole", "part", "text"),
    [
        ("^[a-z ]{1,12}$", r"(?i)\bBASIC\s+\w+", "basic a"),
        ("^x[a-z ]{1,12}$", r"\bbasic\s+\w+", "x basic a"),
        ("^x[a-z]*$", r"\bbasic", None),
        (r"^\d{3}(?: \d{3})*$", r"\b\d{4}\b", None),
        (r"^\d{1,3}(?:[ .]\d{2})*$", r"\b\d{2} \d{2}\b", "00 00"),
        ("^(?:ab|cd)+$", "bc|dd", "abcd"),
        ("^[^a-z]{2}$", "[ß]", "\x00ß"),
    ],
)
def test_a_text_that_two_patterns_have_in_common_is_found_if_there_is_one(
    whole: str, part: str, text: str | None
) -> None:
    found = common(whole, part)
    assert (found is None) is (text is None)
    for each in filter(None, (found, text)):
        assert len(each) == len(text or "")
        assert re.fullmatch(whole, each)
        assert re.search(part, each)


AROUND = [agent.split("CANARY") for agent in AGENTS]


@pytest.mark.parametrize("blocked", BLOCKED, ids=lambda pattern: pattern.pattern[:20])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_the_search_finds_does_not_skip_it(blocked: re.Pattern[str], data: st.DataObject) -> None:
    secret = data.draw(st.from_regex(blocked, fullmatch=True, alphabet=st.characters(codec="ascii")))
    before, after = data.draw(st.sampled_from([*product(["", "a", "find ", "GET /", "/x/"], [""]), *AROUND]))
    text = before + secret + after
    assume(blocked.search(text))
    assert not [pattern.pattern for pattern in ALLOWED if pattern.fullmatch(text)]


BEGINNINGS = [
    *(
        "",
        "AKIA",
        "ASIA",
        "ghp_",
        "github_pat_",
        "glpat-",
        "glrt-",
        "xoxb-",
        "xapp-1-",
        "sk_live_",
        "pk_test_",
        "whsec_",
    ),
    *("AIza", "sk-", "SG.", "npm_", "hf_", "eyJ", "4111", "35", "3056", "5500", "DE89", "+49", "://", "a@b"),
    *("Bearer ", "basic ", "digest ", "token=", "Cookie: ", "authorization:"),
]
WORDS = ["", *("a" * 6, "b" * 12, "c" * 15, "C" * 6, "C" * 15, "1", "111", "1111", "1" * 12, "1a" * 11, "1a" * 22)]
JOINTS = ["/", ".", "_", "-", "{", "}", " ", "=****&"]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_what_begins_as_a_secret_skips_no_search_that_finds_it(beginning: str) -> None:
    befores = ["", "/", "GET /", "find ", "a.", "a-", "/{", "/a{"]
    for before, first, joint, second, end in product(befores, WORDS, JOINTS, WORDS, ["", "}"]):
        text = before + beginning + first + joint + second + end
        if any(pattern.fullmatch(text) for pattern in ALLOWED):
            assert not [pattern.pattern for pattern in BLOCKED if pattern.search(text)], text


TYPICAL = [
    *("mongodb", "orders", "find", "127.0.0.1", "27017", "GET", "http", "1.1", "python-httpx/0.28.1", "order_items"),
    *("/api/orders/", "/api/orders/{order_id}", "/api/user_orders/665f1c2ab3d4e5f60718293a", "page=****&limit=****"),
    *(
        "/api/orders/ea33f0ddc470b733ef6f1f9e7e05b164",
        "/orders/e509967f-e957-4c7c-879a-dc9c2ed5424f",
        "application/json",
    ),
    *("e509967f-e957-4c7c-879a-dc9c2ed5424f", "0.25", "-1", "", "pymongo.errors.AutoReconnect", "eu-central"),
]


CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
TYPICAL += [
    f"Mozilla/5.0 (X11; Linux x86_64) {CHROME} Safari/537.36",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/138.0.0.0",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {CHROME} Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/UD1A.230803.041; wv) {CHROME} Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5",
    *(f"{IPHONE} Version/18.5 Mobile/15E148 Safari/604.1", f"{IPHONE} CriOS/138.0.7204.33 Mobile/15E148 Safari/604.1"),
    *("curl/8.5.0", "okhttp/4.12.0", "PostmanRuntime/7.43.0", "Go-http-client/2.0"),
    *("kube-probe/1.31", "Prometheus/3.1.0", "axios/1.7.9", "python-requests/2.32.3", "python-urllib3/2.2.1"),
]


@pytest.mark.parametrize("value", TYPICAL)
def test_what_spans_are_full_of_skips_the_search(value: str) -> None:
    assert any(pattern.fullmatch(value) for pattern in ALLOWED[len(NAMES) :])


CHEAP = [
    *(
        "orders",
        "GET",
        "127.0.0.1",
        "27017",
        "/api/orders/{order_id}",
        "/orders/{order_id}/items/{item_id}",
        "/items/17",
    ),
    *("/api/orders/ea33f0ddc470b733ef6f1f9e7e05b164", "/api/orders/665f1c2ab3d4e5f60718293a/items"),
    *("e509967f-e957-4c7c-879a-dc9c2ed5424f", "35f9967f-e957-4c7c-879a-dc9c2ed5424f"),
    *("/orders/e509967f-e957-4c7c-879a-dc9c2ed5424f", "/orders/35f9967f-e957-4c7c-879a-dc9c2ed5424f/items"),
]


@pytest.mark.parametrize("value", CHEAP)
def test_ids_and_paths_do_not_reach_the_patterns_that_cost_more(value: str) -> None:
    assert any(pattern.fullmatch(value) for pattern in ALLOWED[len(NAMES) :][:2])


IN_DISGUISE = [
    "e509967f-e957-4c7c-4111-123456789012",
    "/orders/e509967f-e957-4c7c-4111-123456789012",
    "/orders/41111111-1111-1111-1111-111111111111",
    "/a-4111-1111-1111-1111",
    "/4111111111111",
    "/orders/{whsec_aaaaaaaaaaaaaaaaaaaaaaaaaaaa}",
    "/orders/sk-e957-4c7c-879a-dc9c2ed5424f",
]


@pytest.mark.parametrize("value", IN_DISGUISE)
def test_a_secret_between_the_parts_of_ids_and_paths_is_searched_for(value: str) -> None:
    assert not any(pattern.fullmatch(value) for pattern in ALLOWED)
    assert any(pattern.search(value) for pattern in BLOCKED)
