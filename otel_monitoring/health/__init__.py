"""Health: checks, the state of the database, and the documented answers made of them."""
