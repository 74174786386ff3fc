"""What fires: the evaluation of rules, the state machine of an alert, and what is notified."""
