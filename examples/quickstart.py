"""Search with your own function; run me: python examples/quickstart.py."""

from lm_searcher.agent.search import Search


def train(config: dict[str, int | str], budget: float, seed: int) -> dict[str, float]:
    """Stands in for a training: the best is a wide, deep network with gelu."""
    width, depth = int(config["width"]), int(config["depth"])
    accuracy = 0.9 + 0.02 * (config["activation"] == "gelu")
    accuracy -= (width - 128) ** 2 / 1e6 + (depth - 4) ** 2 / 200
    return {"accuracy": accuracy, "params_m": width * width * depth / 1e6}


if __name__ == "__main__":
    search = Search(
        space={
            "width": [16, 32, 64, 128, 256],
            "depth": [1, 2, 3, 4, 5, 6],
            "activation": ["relu", "gelu", "tanh"],
        },
        evaluator=train,
        metric="accuracy",
        ranker="evolution",
        trials=30,
        workers=2,
        name="quickstart",
    )
    result = search.run()
    assert result.incumbent is not None
    print(result.incumbent.ncode, result.best_config, result.incumbent.value)
