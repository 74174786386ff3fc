"""What to look at, as data: rules, and their expressions over a window and in PromQL."""
