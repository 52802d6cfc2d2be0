"""What the controller acts with: evaluators, executors, rankers."""
