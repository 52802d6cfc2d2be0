"""Runs as Optuna studies: a read-only storage, the dashboard, and a copy that can be written to."""
