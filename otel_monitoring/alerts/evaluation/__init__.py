"""What fires: readings, the state machine, transitions, and what is notified."""
