"""The store in a MongoDB database that the workers of all hosts share."""

from otel_monitoring.alerts.store.mongodb.store import MongoStore

__all__ = ["MongoStore"]
