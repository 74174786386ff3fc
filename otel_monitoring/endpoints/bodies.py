"""The bodies of requests, loaded with the first of them: most processes never get one."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from otel_monitoring.alerts.mute import DEFAULT_MUTE_SECONDS

_Name = Annotated[str, Field(max_length=64)]
Label = Annotated[str, Field(min_length=1, max_length=500)]


_FORM = ConfigDict(extra="forbid", defer_build=True)
"""A form is built with its first body."""


class MuteRequest(BaseModel):
    """The body of `POST /alerts/mutes`."""

    model_config = _FORM

    type: _Name | None = None
    rule: _Name | None = None
    duration_seconds: Annotated[float, Field(strict=True, gt=0, le=366 * 86_400)] = DEFAULT_MUTE_SECONDS
    labels: Annotated[dict[Label, Label], Field(max_length=20)] = {}
    reason: Annotated[str, Field(max_length=500)] = ""
    author: Annotated[str, Field(max_length=200)] = ""


class WeeklyRequest(BaseModel):
    """The days and local times of a weekly window."""

    model_config = _FORM

    days: (
        Annotated[list[Annotated[str, Field(max_length=20)]], Field(min_length=1, max_length=7)]
        | Annotated[str, Field(min_length=1, max_length=60)]
    )
    start: Annotated[str, Field(alias="from", max_length=20)]
    end: Annotated[str, Field(alias="to", max_length=20)]


class MaintenanceRequest(BaseModel):
    """The body of `POST /alerts/maintenance`."""

    model_config = _FORM

    start: Annotated[Annotated[str, Field(max_length=50)] | None, Field(alias="from")] = None
    end: Annotated[Annotated[str, Field(max_length=50)] | None, Field(alias="to")] = None
    weekly: WeeklyRequest | None = None
    timezone: Annotated[str, Field(max_length=100)] = "UTC"
    type: _Name | None = None
    rule: _Name | None = None
    labels: Annotated[dict[Label, Label], Field(max_length=20)] = {}
    reason: Annotated[str, Field(max_length=500)] = ""
    author: Annotated[str, Field(max_length=200)] = ""


class AcknowledgeRequest(BaseModel):
    """The body of `POST /alerts/{incident}/acknowledge`."""

    model_config = _FORM

    reason: Annotated[str, Field(max_length=500)] = ""
    author: Annotated[str, Field(max_length=200)] = ""


_PARAMETERS = (
    *("limit", "alert_type", "severity", "scope", "name", "incident"),
    *("metric", "range", "step", "endpoint", "end", "endpoints"),
)
_WINDOW = ("from", "to", "weekly", "days", "timezone")
FIELDS = frozenset({*MuteRequest.model_fields, *_WINDOW, "query", "path", "body", *_PARAMETERS})
"""Names that an error may contain; all other names in it come from the sender."""
