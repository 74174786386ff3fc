"""The channels that the settings configure. The module of a channel, with its library, is imported if it is used."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pydantic import SecretStr

from otel_monitoring.alerts.notify.channels import Channel, Immediate
from otel_monitoring.alerts.notify.channels.log import LogChannel
from otel_monitoring.alerts.route import check_channels, routes_of
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_monitoring.alerts.notify.channels.heartbeat import Heartbeat


def channels_from(settings: Settings) -> tuple[Channel, ...]:
    """The log, and every channel whose variables are set; their names are unique.

    Raises:
        ConfigurationError: A setting is invalid; the message names the variable and never contains its value.
    """
    found = (
        LogChannel(),
        *_email(settings),
        *_slack(settings),
        *_webhook(settings),
        *_alertmanager(settings),
        *_apprise(settings),
    )
    check_channels(
        routes_of(settings.alert_routes or ""), [one.name for one in found if not isinstance(one, Immediate)]
    )
    return found


def heartbeat_from(settings: Settings, clock: Callable[[], float], elapsed: Callable[[], float]) -> "Heartbeat | None":
    """The heartbeat, if there is a URL.

    Args:
        settings: The settings.
        clock: Returns Unix time in seconds.
        elapsed: Returns monotonic time in seconds.

    Raises:
        ConfigurationError: The URL has no host; the message names the variable.
    """
    if settings.alert_heartbeat_url is None:
        return None
    from otel_monitoring.alerts.notify.channels import proxies
    from otel_monitoring.alerts.notify.channels.heartbeat import Heartbeat

    proxies.warn_of_invalid()
    _host(settings.alert_heartbeat_url, "ALERT_HEARTBEAT_URL")
    method, interval = settings.alert_heartbeat_method, settings.alert_heartbeat_interval
    return Heartbeat(settings.alert_heartbeat_url, method=method, interval=interval, clock=clock, elapsed=elapsed)


def _email(settings: Settings) -> Iterator[Channel]:
    if settings.smtp_server is None or not settings.alert_email_to:
        return
    if settings.alert_email_from is None:
        raise ConfigurationError("ALERT_EMAIL_FROM: is needed where SMTP_SERVER and ALERT_EMAIL_TO are set")
    security = settings.smtp_security or ("tls" if settings.smtp_port == 465 else "starttls")
    if security == "none" and settings.alert_email_password is not None:
        raise ConfigurationError("SMTP_SECURITY: none would send ALERT_EMAIL_PASSWORD unencrypted; use starttls or tls")
    from otel_monitoring.alerts.notify.channels.email import EmailChannel, MailServer

    server = MailServer(
        settings.smtp_server,
        settings.smtp_port,
        security,
        username=settings.smtp_username,
        password=settings.alert_email_password,
    )
    yield EmailChannel(server, settings.alert_email_from, settings.alert_email_to)


def _slack(settings: Settings) -> Iterator[Channel]:
    if settings.slack_bot_token is not None:
        if settings.slack_channel is None:
            raise ConfigurationError("SLACK_CHANNEL: is needed where SLACK_BOT_TOKEN is set")
        from otel_monitoring.alerts.notify.channels import proxies
        from otel_monitoring.alerts.notify.channels.slack_bot import SlackBotChannel

        proxies.warn_of_invalid()
        yield SlackBotChannel(settings.slack_bot_token, settings.slack_channel, api=settings.slack_api_url)
    elif settings.slack_webhook_url is not None:
        from otel_monitoring.alerts.notify.channels import proxies
        from otel_monitoring.alerts.notify.channels.slack import SlackChannel

        proxies.warn_of_invalid()
        _host(settings.slack_webhook_url, "SLACK_WEBHOOK_URL")
        yield SlackChannel(settings.slack_webhook_url)


def _webhook(settings: Settings) -> Iterator[Channel]:
    url, allow_private = settings.alert_webhook_url, settings.alert_webhook_allow_private
    if url is None:
        return
    from otel_monitoring.alerts.notify.channels.public_address import NOT_PUBLIC, is_private_literal
    from otel_monitoring.alerts.notify.channels.webhook import WebhookChannel

    host = _host(url, "ALERT_WEBHOOK_URL")
    if not allow_private and is_private_literal(host):
        raise ConfigurationError(f"ALERT_WEBHOOK_URL: its {NOT_PUBLIC}")
    yield WebhookChannel(url, settings.alert_webhook_secret, allow_private=allow_private)


def _alertmanager(settings: Settings) -> Iterator[Channel]:
    if settings.alertmanager_url:
        from otel_monitoring.alerts.notify.channels import proxies
        from otel_monitoring.alerts.notify.channels.alertmanager import AlertmanagerChannel

        proxies.warn_of_invalid()
        for url in settings.alertmanager_url:
            _host(url, "ALERTMANAGER_URL")
        generator = f"{settings.public_url}{settings.prefix}/alerts/firing" if settings.public_url else ""
        yield AlertmanagerChannel(settings.alertmanager_url, generator_url=generator)


def _apprise(settings: Settings) -> Iterator[Channel]:
    if settings.alert_apprise_urls:
        from otel_monitoring.alerts.notify.channels.apprise import AppriseChannel

        seen: Counter[str] = Counter()
        for url in settings.alert_apprise_urls:
            scheme = url.get_secret_value().partition("://")[0].lower()
            seen[scheme] += 1
            number = f"-{seen[scheme]}" if seen[scheme] > 1 else ""
            yield AppriseChannel(url, f"apprise-{scheme}{number}")


def _host(url: SecretStr, variable: str) -> str:
    """The host of `url`, parsed by httpx, which also sends: another parser may read another host.

    Raises:
        ConfigurationError: httpx cannot send to the URL, e.g. `http://①②⑦.0.0.1/`.
    """
    import httpx

    try:
        host = httpx.URL(url.get_secret_value()).host
    except (httpx.InvalidURL, ValueError):
        host = ""
    if not host:
        raise ConfigurationError(f"{variable}: its host is neither a name nor an address")
    return host
