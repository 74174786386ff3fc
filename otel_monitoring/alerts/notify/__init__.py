"""What is said: the delivery of the outbox, and its channels."""
