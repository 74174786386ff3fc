"""EarlyBird Delivery Services: an example FastAPI + MongoDB service, monitored with one line (see app.py).

`make demo` runs it as one service under traffic (demo.py). `make flow` runs it as four processes (flow.py): app.py
takes orders, delivery_service.py plans deliveries, billing_worker.py and notifier.py handle the events about them.
"""
