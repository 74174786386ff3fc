"""The rules and dashboards of a service as files for the fleet's own engines: Prometheus, Grafana, Datadog."""
