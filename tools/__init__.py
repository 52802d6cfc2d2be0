"""What the controller acts with: evaluators, executors, rankers."""

import logging

# A library does not print its log records unless the application asks; see `logs`.
logging.getLogger("lm_searcher").addHandler(logging.NullHandler())
