"""The past of a service as slices of time, coarser with age."""
