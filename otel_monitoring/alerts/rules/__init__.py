"""Rules as data: their expressions, evaluated over a window here and written in PromQL for Prometheus."""
