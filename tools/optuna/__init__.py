"""The rankers as a sampler of Optuna studies."""
