"""`figure`: a number in as few characters as it needs."""


def figure(value: float | None) -> float | None:
    """Four significant digits."""
    return None if value is None else float(f"{value:.4g}")
