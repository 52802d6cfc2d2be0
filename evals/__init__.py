"""Studies: regret on benchmarks, the controller's overhead."""
