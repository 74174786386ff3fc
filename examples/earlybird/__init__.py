"""EarlyBird Delivery Services: an example FastAPI + MongoDB service, monitored with one line (see app.py).

`make demo` runs it alone, under traffic. `make flow` runs it as four processes: app.py takes orders,
delivery_service.py plans their deliveries, billing_worker.py and notifier.py work on the events that leave (flow.py).
"""
