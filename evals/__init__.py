"""Studies: regret on benchmarks, landscapes, speed, and the overhead of the controller."""
