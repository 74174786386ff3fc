"""What changed: the evidence of an alert, collected once when it begins to fire, and when it is notified again."""
