"""A Prometheus that answers for the service and evaluates its rules, in place of the exchange of its processes."""
