"""`figure`: a number of the page, in as few characters as it needs."""


def figure(value: float | None) -> float | None:
    """`value` with four significant digits."""
    return None if value is None else float(f"{value:.4g}")
