"""The lm ranker: its prompts, and its use of the answers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.prompts import ncode
from lm_searcher.spaces.errors import ConfigError, RankerError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.llm.huggingface import load
from lm_searcher.tools.protocols import AskingRanker, Objective
from lm_searcher.tools.rankers import make_ranker
from lm_searcher.tools.rankers.lm import likelihood, ranker
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import digit_tokenizer, from_scratch
from lm_searcher.tools.rankers.lm.likelihood import separately
from lm_searcher.tools.rankers.lm.ranker import LMRanker
from lm_searcher.tools.rankers.lm.text import answer_ids, merges_digits, prompt_ids

SPACE = SearchSpace.of("grid", {f"p{i}": list("abcd") for i in range(5)})
RNG = np.random.default_rng(0)
ALL = SPACE.enumerate()
TRIED = ALL[:: len(ALL) // 20][:20]
NONE = np.zeros(20, bool)
HISTORY = History(TRIED, RNG.normal(size=20), NONE, NONE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of random weights, as training writes it."""
    path = tmp_path_factory.mktemp("model")
    model, tokenizer = from_scratch("tiny", 1, width=32, layers=2, heads=2)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def made(folder: Path, picks: int = 1, **settings: Any) -> LMRanker:
    found = make_ranker(
        f"lm:{folder}", SPACE, {"fallback": "evolution", **settings}, Objective(picks=picks)
    )
    assert isinstance(found, LMRanker) and isinstance(found, AskingRanker)
    return found


def test_one_prompt_is_ranked_by_likelihood(folder: Path) -> None:
    lm, loaded = made(folder), load(str(folder))
    pool = ALL[[5, 77, 300, 811, 900]]
    order = lm.rank(pool, HISTORY, seed=3)
    asked = []

    def keep(model: Any, questions: Sequence[likelihood.CandidateSet]) -> list[list[float]]:
        asked.extend(questions)
        return separately(model, questions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "log_likelihoods", keep)
        assert np.array_equal(lm.rank(pool, HISTORY, seed=3), order)
    (question,) = asked
    text = loaded.tokenizer.decode(question.prompt)
    codes = text.split(",")[-1].strip(";").split(";")
    logs = separately(loaded.model, asked)[0]
    names = ["".join("0123456789"[d] for d in row) for row in pool]
    assert [names[i] for i in order] == [codes[i] for i in np.argsort(logs)[::-1]]
    assert sorted(codes) == sorted(names)


def test_a_tournament_compares_all(folder: Path) -> None:
    lm = made(folder, candidates=64)
    ranking = lm.rank(ALL, HISTORY, seed=0)
    assert np.array_equal(np.sort(ranking), np.arange(len(ALL)))
    # 64 in 7 prompts, their 7 winners in another one
    assert lm.usage.asks == 8 and lm.usage.decisions == 1 and lm.usage.fallbacks == 0
    assert lm.spent.prompt_tokens == lm.usage.prompt_tokens > 0


def test_the_tournament_finds_the_likeliest_candidate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With likelihoods that rise with the digits, the winner of all rounds is the highest code."""
    lm = made(folder, candidates=100)

    def digits(model: Any, questions: Sequence[likelihood.CandidateSet]) -> list[list[float]]:
        return [[float(sum(answer)) for answer in q.answers] for q in questions]

    lm.prepare()
    monkeypatch.setattr(likelihood, "log_likelihoods", digits)
    pool = ALL[::7][:100]
    ranking = lm.rank(pool, HISTORY, seed=0)
    sums = pool[ranking].sum(axis=1)
    assert sums[0] == pool.sum(axis=1).max()
    assert sums[:10].mean() > sums[10:40].mean() > sums[-40:].mean()


def test_generate_takes_a_reply_that_is_a_candidate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = made(folder, mode="generate", picks=2)
    replies: list[int | None] = []

    def second(loaded: Any, prompt: list[int], most: int, seed: int | None) -> tuple[int, str]:
        replies.append(seed)
        codes = loaded.tokenizer.decode(prompt).split(",")[-1].strip(";").split(";")
        return 6, "nonsense" if len(replies) == 1 else codes[1]

    monkeypatch.setattr(ranker, "reply", second)
    ranking = lm.rank(ALL, HISTORY, seed=5)
    assert len(replies) == 3 and replies[0] is None and replies[1] is not None
    assert replies[2] is None, "the second pick is asked for greedily again"
    assert lm.usage.asks == 3 and lm.usage.reasks == 1 and lm.usage.fallbacks == 0
    assert len(set(ranking.tolist())) == len(ALL)


def test_generate_falls_back_and_counts(folder: Path) -> None:
    """Random weights do not answer with a candidate."""
    lm = made(folder, mode="generate")
    first = lm.rank(ALL, HISTORY, seed=5)
    assert lm.usage.asks == 3 and lm.usage.reasks == 2 and lm.usage.fallbacks == 1
    assert "replies that are no candidate" in lm.usage.reason
    assert np.array_equal(first, make_ranker("evolution", SPACE).rank(ALL, HISTORY, seed=5))


def test_a_small_context_drops_the_worst_and_says_so_once(folder: Path) -> None:
    lm = made(folder, context=6 * 10 + 6 * 7 + 12)
    whole = made(folder)
    for seed in range(3):
        lm.rank(ALL, HISTORY, seed=seed)
        whole.rank(ALL, HISTORY, seed=seed)
    assert len(lm.notes) == 1 and "leave out the worst trials" in lm.notes[0]
    assert whole.notes == []
    assert lm.spent.prompt_tokens < whole.spent.prompt_tokens


def test_fewer_candidates_are_listed_if_ten_do_not_fit(folder: Path) -> None:
    lm = made(folder, context=40, candidates=20)
    lm.rank(ALL, HISTORY, seed=0)
    assert 1 < lm._listed < 10


def test_a_context_too_small_for_one_candidate(folder: Path) -> None:
    with pytest.raises(RankerError, match=r"^model '.*': its context of 12 tokens has no room for"):
        made(folder, context=12).prepare()


def test_names_and_settings_that_are_refused(folder: Path) -> None:
    for name in ("lm:", "lm:+adapter", "lm:model+"):
        with pytest.raises(ConfigError, match="lm:PATH-OR-ID"):
            make_ranker(name, SPACE)
    with pytest.raises(ConfigError, match=r"unknown key in \[ranker\] for 'lm' 'key_env'"):
        made(folder, key_env="KEY")


def test_prompts_have_the_papers_form(folder: Path) -> None:
    tokenizer = load(str(folder)).tokenizer
    prompt = ncode.render([("01231", 2.0), ("33210", 1.0), ("00000", None)], ["11111", "22222"])
    assert tokenizer.decode(prompt_ids(tokenizer, prompt)) == (
        "01231|1.00,33210|0.00,00000|0.00,11111;22222;"
    ), "rounded to hundredths"
    ids = answer_ids(tokenizer, "01231")
    assert len(ids) == 6 and ids[-1] == tokenizer.eos_token_id


def test_a_note_about_a_tokenizer_that_merges_digits() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    assert not merges_digits(digit_tokenizer())
    words = {w: i for i, w in enumerate(["<end>", *"0123456789", "00", "000", "33"])}
    merges = [("0", "0"), ("00", "0"), ("3", "3")]
    core = Tokenizer(models.BPE(words, merges))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert merges_digits(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>"))


def test_loading_prints_nothing(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(str(folder)).context == 8192
