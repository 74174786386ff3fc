"""What `watch` makes of answers: rates, load, and what it remembers of a service that went away."""

from typing import Any

from otel_monitoring.cli.watch.poll import KEPT, Refresh, RefreshHistory, busiest


def diagnostics(requests: int, worker: str = "a", **more: Any) -> dict[str, Any]:
    window = {"seconds": 100.0, "requests_recorded": 500, "error_rate": 2.0, "p95_response_time": 0.2}
    return {
        "performance": {"requests_recorded": requests, "window": window},
        "worker": {"instance_id": worker, "pid": worker},
        "system": {"cpu_percent": 12.5, "memory_percent": 40.0},
        "event_loop": {"lag_seconds": 0.003},
        "database": {"response_time_ms": 1.5},
        **more,
    }


def test_the_rate_is_that_of_the_service_whoever_answers() -> None:
    history = RefreshHistory()
    assert history.add(Refresh(10.0, diagnostics(1000))).request_rate == 5.0, "at first, that of the window"
    assert history.add(Refresh(12.0, diagnostics(1040))).request_rate == 20.0
    assert history.add(Refresh(14.0, diagnostics(1060, "b"))).request_rate == 10.0, "another worker"
    assert history.add(Refresh(16.0, diagnostics(1080))).request_rate == 10.0
    assert history.add(Refresh(18.0, diagnostics(3))).request_rate == 5.0, "counts that fell are those of a new start"


def test_figures_come_from_the_window() -> None:
    figures = RefreshHistory().add(Refresh(10.0, diagnostics(1)))
    assert (figures.error_rate, figures.p95, figures.cpu_percent) == (2.0, 0.2, 12.5)
    assert (figures.memory_percent, figures.loop_lag, figures.ping_ms) == (40.0, 0.003, 1.5)


def test_a_service_that_went_away_leaves_its_last_figures() -> None:
    history = RefreshHistory()
    history.add(Refresh(10.0, diagnostics(1)))
    history.add(Refresh(12.0, error="refused"))
    history.add(Refresh(14.0, error="refused"))
    assert history.lost_at == 12.0
    assert history.last is not None
    assert history.last.at == 10.0
    history.add(Refresh(16.0, diagnostics(1)))
    assert history.lost_at is None


def answers(history: RefreshHistory, workers: str) -> list[object]:
    for at, worker in enumerate(workers):
        history.add(Refresh(float(at), diagnostics(1, worker)))
    return [seen.pid for seen in history.gone]


def test_a_worker_is_gone_when_another_answers_in_its_place() -> None:
    history = RefreshHistory()
    assert answers(history, "aaa") == []
    history.add(Refresh(3.0, error="refused"))
    assert history.gone == []
    assert answers(history, "b") == ["a"], "a new one has its place"
    assert answers(history, "b" * (KEPT - 2)) == ["a"]
    assert answers(history, "b") == [], "nothing of it is shown any more"


def test_workers_that_answer_by_turns_are_there() -> None:
    history = RefreshHistory()
    assert answers(history, "abcabaccb") == []
    assert answers(history, "ab" * 14) == []
    assert answers(history, "ab") == ["c"], "it missed ten rounds of three"
    assert answers(history, "c") == [], "it is back"


def test_load_is_calls_times_time() -> None:
    endpoints = {
        "/often": {"call_count": 100, "avg_time": 0.001},
        "/slow": {"call_count": 3, "avg_time": 0.1},
        "/never": {"call_count": 0, "avg_time": None},
    }
    ranked = [(route, share) for route, _, share in busiest({"endpoints": endpoints})]
    assert ranked == [("/slow", 75.0), ("/often", 25.0), ("/never", 0.0)]
    assert busiest({}) == []


def test_what_fires_can_be_muted_else_the_latest() -> None:
    firing = [{"type": "high_cpu"}, {"type": "high_cpu"}, {"type": "custom"}]
    muted = {"high_memory": "2026-01-01T00:00:00+00:00"}
    assert Refresh(1.0, {}, firing, muted, ("billing_failure",)).mutable_types == ["high_cpu", "custom", "high_memory"]
    assert Refresh(1.0, {}, None, {}, ("billing_failure",)).mutable_types == ["billing_failure"]
