from __future__ import annotations

from typing import Any

import pytest

from lm_searcher.spaces.errors import ConfigError, RankerError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.llm.settings import NO_KEY, EndpointSettings
from lm_searcher.tools.protocols import Objective
from lm_searcher.tools.rankers import make_ranker
from lm_searcher.tools.rankers.evolution import EvolutionRanker

URL = "http://localhost:8000/v1"
SPACE = SearchSpace.of("grid", {"a": [1, 2, 3], "b": ["x", "y"]})


def settings(what: str = f"m@{URL}", **given: Any) -> EndpointSettings:
    return EndpointSettings.of(what, given)


@pytest.mark.parametrize(
    ("what", "model", "url"),
    [
        (f"m@{URL}", "m", URL),
        ("org/model:7b@http://10.0.0.1:80/", "org/model:7b", "http://10.0.0.1:80"),
        ("model@20250101@https://host/v1/", "model@20250101", "https://host/v1"),
        ("m@http://[::1]:80/v1", "m", "http://[::1]:80/v1"),
    ],
)
def test_model_and_url(what: str, model: str, url: str) -> None:
    found = settings(what)
    assert (found.model, found.url) == (model, url)


@pytest.mark.parametrize(
    "what", ["m", "@http://x", "m@x", "m@ftp://x", "m@http://", "m m@http://x", "m@http://x:port"]
)
def test_names_that_are_refused(what: str) -> None:
    with pytest.raises(ConfigError, match="accepted: endpoint:MODEL@URL"):
        settings(what)


@pytest.mark.parametrize("place", ["u:S3CRET@host/v1", "S3CRET@host", "host/v1?key=S3CRET"])
def test_a_url_may_hold_no_secret(place: str) -> None:
    with pytest.raises(ConfigError, match="key_env") as error:
        settings(f"m@https://{place}")
    assert "S3CRET" not in str(error.value)


def test_the_defaults_go_by_the_prompt() -> None:
    assert (settings().shown, settings().room) == (32, 1024)
    paper = settings(prompt="ncode")
    assert (paper.shown, paper.room) == (10, 100)
    chosen = settings(prompt="ncode", candidates=7, reply_tokens=9)
    assert (chosen.shown, chosen.room) == (7, 9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"promt": "ncode"}, "unknown key in .* 'promt'; did you mean 'prompt'"),
        ({"mode": "score"}, r"unknown key in \[ranker\] for 'endpoint' 'mode'"),
        ({"url": "x"}, "unknown key in .* 'url'"),
        ({"price_in": 1.0}, "price_in and price_out: give both or neither"),
        ({"max_cost": 1.0}, "max_cost needs price_in and price_out"),
    ],
)
def test_settings_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**given)


def test_the_key_is_that_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    monkeypatch.setenv("MINE", " sk-mine\n")
    assert settings("m@https://host").key() == "sk-usual"
    assert settings("m@https://host", key_env="MINE").key() == "sk-mine"
    assert settings(key_env="MINE").key() == "sk-mine"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]", "a.localhost"])
def test_loopback_needs_no_key_and_is_sent_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    assert settings(f"m@http://{host}:1/v1").key() == NO_KEY


@pytest.mark.parametrize("held", [None, "", "  ", "sk two", "sk-\u00e9", "sk-\x01"])
def test_a_key_that_is_missing_or_none(held: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINE", raising=False)
    if held is not None:
        monkeypatch.setenv("MINE", held)
    with pytest.raises(ConfigError, match="environment variable MINE") as error:
        make_ranker(f"endpoint:m@{URL}", SPACE, {"key_env": "MINE"})
    assert not (held or "").strip() or held not in str(error.value)


def test_the_cost() -> None:
    priced = settings(price_in=2.0, price_out=10.0)
    assert priced.cost(500_000, 1_000) == pytest.approx(1.01)
    assert settings().cost(500_000, 1_000) == 0


def test_a_context_too_small_for_one_candidate() -> None:
    with pytest.raises(RankerError, match=r"context = 1100 is too small for 1 candidate and"):
        make_ranker(f"endpoint:m@{URL}", SPACE, {"context": 1100})


def test_the_fallback() -> None:
    wide = SearchSpace.of("wide", {f"p{i}": [0, 1] for i in range(80)})
    made: Any = make_ranker(f"endpoint:m@{URL}", wide, {}, Objective())
    assert isinstance(made.fallback, EvolutionRanker)
    made = make_ranker(f"endpoint:m@{URL}", SPACE, {})
    assert type(made.fallback).__name__ == "InContextRanker"
    for name in ("tp", f"endpoint:m@{URL}"):
        with pytest.raises(ConfigError, match="fallback: unknown ranker"):
            make_ranker(f"endpoint:m@{URL}", SPACE, {"fallback": name})


@pytest.mark.parametrize("name", ["endpoint", "endpoint:", "endpont:m@http://x"])
def test_the_form_of_a_name_is_in_the_message(name: str) -> None:
    with pytest.raises(ConfigError, match="endpoint:MODEL@URL"):
        make_ranker(name, SPACE)
