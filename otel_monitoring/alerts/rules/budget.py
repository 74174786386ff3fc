"""The arithmetic of error budgets, and what it means in plain words.

The formulas are those of the SRE Workbook, https://sre.google/workbook/alerting-on-slos/: an objective of 99.9 % has
an error budget of 0.1 % of the events in its window. The burn rate is the share of bad events divided by the budget;
at a burn rate of 1 the budget lasts exactly for the window.
"""

from typing import NamedTuple

from otel_monitoring.metrics.event_sums import ALL, Counts, WindowSum

_ENOUGH_MEASURED = 0.5
_UNITS = ((2 * 86_400, 86_400, "d"), (2 * 3600, 3600, "h"), (2 * 60, 60, "min"), (0, 1, "s"))


class Objective(NamedTuple):
    """How many events of a window must be good.

    Attributes:
        percent: The good events, in percent of all.
        window: Seconds.
    """

    percent: float
    window: int

    @property
    def budget_percent(self) -> float:
        """The events that may be bad, in percent of all."""
        return float(f"{100 - self.percent:.12g}")

    def burn_rate(self, counts: Counts) -> float:
        """How many times as fast as allowed the budget is spent; 0 without events.

        Rounded, so that a burn rate that is exactly a threshold is not above it.
        """
        return round(100 * counts.bad / counts.events / self.budget_percent, 9) if counts.events else 0.0

    def left(self, counts: Counts) -> float:
        """The share of the budget that is left after the events of the window, negative if more was spent."""
        return 1 - self.burn_rate(counts)

    def gone_in(self, left: float, burn_rate: float) -> float | None:
        """In how many seconds the rest of the budget is spent at a burn rate; None: it lasts for the window."""
        if left <= 0:
            return 0.0
        return left * self.window / burn_rate if burn_rate > left else None


def is_blind(found: WindowSum, seconds: float) -> bool:
    """Whether less than half of a window of `seconds` was measured: what is not known is not good."""
    return found.measured < _ENOUGH_MEASURED * seconds


def spenders(found: WindowSum) -> list[tuple[str, float]]:
    """The groups that spend the budget, the worst first, each with its share of all bad events."""
    bad = {name: counts.bad for name, counts in found.groups.items() if name != ALL and counts.bad > 0}
    whole = max(found.of(ALL).bad, sum(bad.values()))
    return [(name, bad[name] / whole) for name in sorted(bad, key=lambda name: (-bad[name], name))]


def in_words(objective: Objective, whole: Counts, burn_rate: float, by: WindowSum | None) -> str:
    """What is left of a budget, when it is gone, and what spends it.

    Args:
        objective: The objective.
        whole: The events of its window.
        burn_rate: The present burn rate.
        by: The present events by endpoint; None: they are not to be named.
    """
    left = objective.left(whole)
    if left <= 0:
        spent = f" ({_share(1 - left)} of it)" if left <= -0.005 else ""
        text = f"the error budget is used up{spent}"
    else:
        gone_in = objective.gone_in(left, burn_rate)
        when = f"gone in {rough(gone_in)} at this rate" if gone_in is not None else "it lasts at this rate"
        text = f"{_share(left)} of the error budget left, {when}"
    worst = spenders(by)[:1] if by is not None else []
    return "; ".join([text, *(f"{name} spends {_share(share)} of it" for name, share in worst)])


def rough(seconds: float) -> str:
    """A time span in one unit: `45 s`, `35 min`, `14 h`, `6 d`."""
    size, name = next((size, name) for least, size, name in _UNITS if seconds >= least)
    return f"{round(seconds / size)} {name}"


def _share(share: float) -> str:
    """A share in percent, with decimals where it is near 0 % or 100 %, but not there."""
    percent = 100 * share
    if percent < 1:
        return f"{percent:.2g} %"
    return f"{percent:.1f} %" if 99.5 <= percent < 100 else f"{percent:.0f} %"
