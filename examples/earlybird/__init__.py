"""EarlyBird Delivery Services: an example FastAPI + MongoDB service, monitored with one line (see app.py)."""
