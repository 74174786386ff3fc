"""Who is notified: the delivery of the outbox, and the channels."""
