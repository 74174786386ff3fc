"""`keep_context`: the global propagator gives a context back, also where it is to propagate nothing.

Of `OTEL_PROPAGATORS=none`, and of a configuration file without a propagator, OpenTelemetry makes a composite of none,
whose `extract` returns None. Instrumentations attach that as the current context, and every request fails.
"""

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from otel_monitoring.guard import fail_open

_guard = fail_open("propagators")


def keep_context() -> None:
    """Replace a global propagator that returns no context by one that returns what it is given."""
    with _guard:
        if propagate.extract({}) is None:
            propagate.set_global_textmap(_Nothing())


class _Nothing(TextMapPropagator):
    """Propagates nothing."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """The context as it is."""
        return Context() if context is None else context

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Nothing."""

    @property
    def fields(self) -> set[str]:
        """None."""
        return set()
