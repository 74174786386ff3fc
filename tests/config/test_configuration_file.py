"""The configuration file of `OTEL_CONFIG_FILE`: our settings in it, what it replaces, and what is said of mistakes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_monitoring.config import Settings
from otel_monitoring.errors import ConfigurationError

File = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("otel_monitoring.environment.warned", [])
    # With each file the SDK checks its own schema anew, which is most of what reading a file costs.
    monkeypatch.setattr("jsonschema.Draft202012Validator.check_schema", lambda _: None)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> File:
    """Write the file, with these lines after its format, and name it in the environment."""

    def write(lines: str) -> Path:
        path = tmp_path / "otel.yaml"
        path.write_text(f'file_format: "1.0"\n{lines}')
        monkeypatch.setenv("OTEL_CONFIG_FILE", str(path))
        return path

    return write


OURS = """
distribution:
  otel_monitoring:
    check_interval: 7
    environment: qa
    error_statuses: [500, 503]
    alert_email_to: [ops@example.com]
    smtp_port: 2525
    admin_token: ${TOKEN}
    public_url: ${NOT_SET}
    excluded_urls: ^/internal
    thresholds: {cpu_percent: 55}
    threshold_memory_percent: 44
"""


def test_our_settings_stand_under_distribution(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "let-me-in-please")
    path = file(OURS)
    settings = Settings.load()
    assert settings.config_file == str(path)
    assert (settings.check_interval, settings.environment, settings.error_statuses) == (
        7.0,
        "qa",
        frozenset({500, 503}),
    )
    assert (settings.alert_email_to, settings.smtp_port) == (("ops@example.com",), 2525)
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == "let-me-in-please"
    assert settings.public_url is None
    assert settings.excluded_urls == ("^/internal",)
    assert (settings.thresholds.cpu_percent, settings.thresholds.memory_percent) == (55, 44)


def test_variables_and_keywords_of_ours_win_over_the_file(
    file: File, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file(OURS.replace("${TOKEN}", "let-me-in-please"))
    (tmp_path / ".env").write_text("SMTP_PORT=26\n")
    monkeypatch.setenv("OTEL_MONITORING_CHECK_INTERVAL", "8")
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "^/mine")
    monkeypatch.setenv("OTEL_MONITORING_THRESHOLD_CPU_PERCENT", "66")
    settings = Settings.load(environment="mine", threshold_memory_percent=33)
    assert (settings.check_interval, settings.environment, settings.smtp_port) == (8.0, "mine", 26)
    assert settings.excluded_urls == ("^/mine",)
    assert (settings.thresholds.cpu_percent, settings.thresholds.memory_percent) == (66, 33)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("chek_interval: 7", "chek_interval: no such setting; did you mean check_interval?"),
        ("otlp_endpoint: http://x", "otlp_endpoint: the file's own sections say that"),
        ("check_interval: 5m", "check_interval: it must be a number, in seconds; did you mean 300?"),
        ("smtp_port: mail", "smtp_port: it must be a whole number"),
        ("alert_email_to: [ops]", "alert_email_to: it must be an e-mail address"),
        ("thresholds: 5", "thresholds: it must be a mapping"),
        ("thresholds: {cpu: 5}", "thresholds.cpu: no such setting; did you mean cpu_percent?"),
        ("thresholds: {cpu_percent: 80%}", "thresholds.cpu_percent: it must be a number; did you mean 80?"),
        ("threshold_cpu_percent: 101", "threshold_cpu_percent: it must be less than or equal to 100"),
        ("threshold_cpu: 5", "threshold_cpu: no such setting; did you mean threshold_cpu_percent?"),
    ],
)
def test_a_wrong_key_or_value_of_ours_stops_the_start_and_is_named(file: File, line: str, said: str) -> None:
    file(f"distribution: {{otel_monitoring: {{{line}}}}}\n")
    with pytest.raises(ConfigurationError) as error:
        Settings.load()
    assert str(error.value).startswith(f"OTEL_CONFIG_FILE: distribution.otel_monitoring.{said}")
    assert "\n" not in str(error.value)


def test_other_vendors_settings_are_theirs(file: File) -> None:
    file("distribution: {nimbus: {chek_interval: 7}}\n")
    assert Settings.load().check_interval == 30.0


def test_the_variables_of_the_specification_are_ignored_in_one_line(
    file: File, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-variable")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("TEAM", "unused")
    file("resource: {attributes: [{name: service.name, value: 'from-${OTEL_SERVICE_NAME}'}]}\n")
    for _ in range(2):
        settings = Settings.load()
    assert not settings.sdk_disabled
    assert not any(settings.exports(signal) for signal in ("traces", "metrics", "logs"))
    assert settings.service_name == "from-from-variable"
    (line,) = caplog.messages
    assert line.startswith("OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SDK_DISABLED: OTEL_CONFIG_FILE is set")


def test_a_keyword_for_what_the_file_says_is_ignored_with_a_warning(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    file("")
    settings = Settings.load(otlp_endpoint="http://127.0.0.1:9", service_name="mine")
    assert settings.otlp_endpoint is None
    assert settings.service_name == "mine", "the file has no name"
    assert caplog.messages == ["otlp_endpoint: OTEL_CONFIG_FILE is set and takes its place; it is ignored"]


UNUSED = {
    "trace_provider": "trace_provider: {}",
    "instrumentation/development.general": "instrumentation/development: {general: {http: {server: {}}}}",
    "tracer_provider.processors[0].batch.exporter.otlp_http.encoding": (
        "tracer_provider: {processors: [{batch: {exporter: {otlp_http: {encoding: json}}}}]}"
    ),
    "meter_provider.readers[0].periodic.cardinality_limits": (
        "meter_provider: {readers: [{periodic: {exporter: {console: }, cardinality_limits: {default: 7}}}]}"
    ),
    "meter_provider.readers[0].periodic.max_export_batch_size/development": (
        "meter_provider: {readers: [{periodic: {exporter: {console: }, max_export_batch_size/development: 7}}]}"
    ),
    "meter_provider.views[0].stream.attribute_keys.excluded": (
        "meter_provider: {readers: [], views: [{selector: {}, stream: {attribute_keys: {excluded: [b]}}}]}"
    ),
    "meter_provider.views[0].stream.aggregation_cardinality_limit": (
        "meter_provider: {readers: [], views: [{selector: {}, stream: {aggregation_cardinality_limit: 4}}]}"
    ),
    "logger_provider.logger_configurator/development.default_config.minimum_severity": (
        "logger_provider: {processors: [], logger_configurator/development: {default_config: {minimum_severity: warn}}}"
    ),
}


@pytest.mark.parametrize("key", UNUSED)
def test_a_key_that_nobody_uses_is_named(file: File, caplog: pytest.LogCaptureFixture, key: str) -> None:
    lines = UNUSED[key].replace("readers: []", "readers: [{periodic: {exporter: {console: }}}]")
    file(lines.replace("processors: []", "processors: [{simple: {exporter: {console: }}}]"))
    for _ in range(2):
        Settings.load()
    said = f"OTEL_CONFIG_FILE: {key}: opentelemetry-configuration does not use them; they are ignored"
    assert caplog.messages == [said]


USED = """
resource: {attributes: [{name: team, value: shop}], detection/development: {detectors: [{host: }]}}
instrumentation/development: {python: {httpx: {}}, java: {spring: {enabled: true}}}
tracer_provider: {processors: [{batch: {exporter: {otlp_http: {encoding: protobuf, tls: {ca_file: /ca.pem}}}}}]}
distribution: {nimbus: {fast: true}}
"""


def test_of_what_is_used_nothing_is_said(file: File, caplog: pytest.LogCaptureFixture) -> None:
    file(USED)
    Settings.load()
    assert caplog.messages == []


EXPORTERS = """
tracer_provider:
  processors:
    - batch: {exporter: {otlp_http: {endpoint: "https://one/v1/traces", tls: {ca_file: /ca.pem, cert_file: /c.pem}}}}
    - batch: {exporter: {otlp_http: {endpoint: "http://localhost:4318/v1/traces"}}}
    - simple: {exporter: {console: }}
logger_provider:
  processors:
    - batch: {exporter: {otlp_grpc: {endpoint: "one:4317", tls: {insecure: true}}}}
"""


def test_tls_of_exporters_becomes_the_variables_that_they_read(file: File) -> None:
    file(EXPORTERS)
    found = Settings.load().file
    assert found is not None
    prefix = "OTEL_EXPORTER_OTLP_TRACES_"
    assert found.tls_variables("traces") == {
        f"{prefix}CERTIFICATE": "/ca.pem",
        f"{prefix}CLIENT_CERTIFICATE": "/c.pem",
    }
    assert found.tls_variables("logs") == {"OTEL_EXPORTER_OTLP_LOGS_INSECURE": "True"}
    assert found.tls_variables("metrics") == {}


def test_exporters_of_one_signal_that_differ_in_tls_have_none(file: File, caplog: pytest.LogCaptureFixture) -> None:
    file(EXPORTERS.replace("http://localhost", "https://localhost"))
    found = Settings.load().file
    assert found is not None
    assert found.tls_variables("traces") == {}
    said = "OTEL_CONFIG_FILE: tracer_provider: tls: exporters of one signal differ in it; it is ignored"
    assert caplog.messages == [said]


def test_a_file_may_switch_everything_off(file: File) -> None:
    file("disabled: true\n")
    assert Settings.load().sdk_disabled


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("tracer_provider: {processors: hunter2}\n", "tracer_provider.processors: it must be array"),
        (
            "resource: {attributes: [{name: key, value: {a: hunter2hunter2}}]}\n",
            "resource.attributes.0.value: it must be",
        ),
        ("tracer_provider: {procesors: []}\n", "tracer_provider: Additional properties are not allowed ('procesors'"),
        ("log_level: loud\n", "log_level: it must be ['trace', "),
        ("hunter2: [\n", "line 3: "),
    ],
)
def test_a_file_that_cannot_be_used_is_ignored_with_one_warning(
    file: File, content: str, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-variable")
    file(content)
    settings = Settings.load()
    assert (settings.config_file, settings.file, settings.service_name) == (None, None, "from-variable")
    (line,) = caplog.messages
    assert line.startswith("OTEL_CONFIG_FILE: ")
    assert line.endswith("; it is ignored")
    assert said in line
    assert "hunter2" not in line
    assert not any(record.exc_info for record in caplog.records)


LARGE = """
tracer_provider:
  limits: {event_count_limit: 9223372036854775808, link_count_limit: 9223372036854775807}
  processors:
    - batch: {schedule_delay: 9223372036854775807, max_queue_size: 9223372036854775808, exporter: {console: }}
meter_provider:
  readers: [{periodic: {interval: 9223372036854775807, timeout: 5, exporter: {console: }}}]
"""


def test_numbers_that_no_thread_or_list_can_have_are_left_out_with_one_warning(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    """They would end the thread that exports, or fail every span of the application."""
    file(LARGE)
    found = Settings.load().file
    assert found is not None
    traces, (reader,) = found.model.tracer_provider, found.model.meter_provider.readers
    (queue,) = traces.processors
    assert (traces.limits.event_count_limit, traces.limits.link_count_limit) == (None, sys.maxsize)
    assert (queue.batch.schedule_delay, queue.batch.max_queue_size) == (None, None)
    assert (reader.periodic.interval, reader.periodic.timeout) == (None, 5)
    (line,) = caplog.messages
    places = ["limits.event_count_limit", "processors[0].batch.schedule_delay", "processors[0].batch.max_queue_size"]
    named = {*(f"tracer_provider.{place}" for place in places), "meter_provider.readers[0].periodic.interval"}
    assert set(line.split(": ")[1].split(", ")) == named


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_variables_may_be_named_with_their_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    """The specification has `${env:NAME}` beside `${NAME}`; the package takes it for text."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-variable")
    monkeypatch.setenv("LIMIT", "7")
    path = tmp_path / f"otel{suffix}"
    attributes = [
        {"name": "service.name", "value": "${env:OTEL_SERVICE_NAME}"},
        {"name": "plain", "value": "$${env:LIMIT} ${LIMIT}"},
        {"name": "other", "value": "${env:NOT_SET:-x}"},
    ]
    text = json.dumps({"file_format": "1.0", "resource": {"attributes": attributes}})
    path.write_text(text)
    settings = Settings.load(config_file=path)
    assert settings.file is not None
    assert settings.config_file == str(path)
    assert [one.value for one in settings.file.model.resource.attributes] == ["from-variable", "${env:LIMIT} 7", "x"]
    assert not caplog.messages


def test_a_variable_keeps_its_type_with_its_kind(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMIT", "7")
    file("attribute_limits:\n  attribute_count_limit: ${env:LIMIT}\n")
    found = Settings.load().file
    assert found is not None
    assert found.model.attribute_limits.attribute_count_limit == 7


def test_a_variable_whose_name_begins_as_one_of_the_file_is_ignored_all_the_same(
    file: File, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-variable")
    file("resource: {attributes: [{name: service.name, value: '${OTEL_SERVICE_NAME_OF_MINE:-x}'}]}\n")
    Settings.load()
    (line,) = caplog.messages
    assert line.startswith("OTEL_SERVICE_NAME: OTEL_CONFIG_FILE is set")


def test_the_file_may_be_a_keyword(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(OURS.replace("${TOKEN}", "let-me-in-please"))
    monkeypatch.delenv("OTEL_CONFIG_FILE")
    for given in (path, str(path), f" {path}\n"):
        settings = Settings.load(config_file=given)
        assert (settings.config_file, settings.check_interval) == (str(path), 7.0)
    with pytest.raises(ConfigurationError, match=r"^OTEL_CONFIG_FILE: it must be text$"):
        Settings.load(config_file=5)


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_CONFIG_FILE", "/nowhere.yaml")
    assert Settings.load().file is None
    assert caplog.messages == ["OTEL_CONFIG_FILE: Configuration file not found: /nowhere.yaml; it is ignored"]


def test_without_the_package_one_warning_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.configuration", None)
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-variable")
    for _ in range(2):
        assert Settings.load().service_name == "from-variable"
    assert caplog.messages == ["OTEL_CONFIG_FILE: it needs pip install 'otel-monitoring[config]'; it is ignored"]
