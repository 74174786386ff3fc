"""What a process says about objectives before anything is known."""

from otel_monitoring import MonitoringService


def test_objectives_of_which_nothing_is_known_are_shown_and_not_told_to_the_other_processes() -> None:
    answers = MonitoringService(None).drive_by_hand(None).answers
    assert answers.own_state()["objectives"] is None
    assert {each["state"] for each in answers.objectives()["objectives"]} == {"blind"}
