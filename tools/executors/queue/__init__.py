"""The executor of a queue: trials wait in PostgreSQL, and workers anywhere take them."""
