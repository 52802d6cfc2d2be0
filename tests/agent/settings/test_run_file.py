from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.loop.memory import Memory
from lm_searcher.agent.settings.build import FLAT, SHORT, keywords, settings_of
from lm_searcher.agent.settings.run_file import RunFile, Settings, load_run_file
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.settings import SettingsModel
from lm_searcher.tools.evaluators.command import CommandSettings
from lm_searcher.tools.evaluators.function import PythonSettings
from lm_searcher.tools.evaluators.settings import EVALUATORS
from lm_searcher.tools.evaluators.table import TableSettings
from lm_searcher.tools.evaluators.training.section import TrainSettings
from lm_searcher.tools.rankers.settings import MODELS, ranker_settings

LEAST = """
[space]
name = "nb201"
[evaluator]
kind = "train"
dataset = "digits"
[ranker]
name = "evolution"
[budget]
trials = 40
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    path = written(folder, text)
    with pytest.raises(ConfigError) as refusal:
        load_run_file(path)
    message = str(refusal.value)
    assert message.startswith(f"run file '{path}'") and "\n" not in message
    return message


def test_the_least_file_of_the_readme(tmp_path: Path) -> None:
    run_file = load_run_file(written(tmp_path, LEAST))
    assert run_file.space.name == "nb201" and run_file.space.settings == {}
    assert isinstance(run_file.evaluator, TrainSettings)
    assert run_file.ranker.name == "evolution" and run_file.budget.trials == 40
    assert run_file.executor.workers == 1 and run_file.run.seed == 0
    assert run_file.store.url is None and run_file.objective.metric is None


WHOLE = """
constraints = ["params_m <= 1", "latency_ms <= 5"]
[space]
name = "nb201"
channels = 8
[evaluator]
kind = "train"
dataset = "folder"
image_size = 32
cache = "decoded"
folder = "data"
epochs = 3
batch_size = 16
learning_rate = 0.1
weight_decay = 0
label_smoothing = 0.1
augment = false
cutout = 16
gradient_clip = 5
auxiliary_weight = 0.4
warmup = 1
data_fraction = 0.5
width = 0.5
compile = true
cuda_graph = false
optimizer = "sgd"
steps = 10
context = 16
latency = true
[objective]
metric = "val_loss"
direction = "min"
[ranker]
name = "local"
initial = 0
pool = 10
weights = "trained/incontext/weights"
[budget]
trials = 7
hours = 0.5
target = -1
patience = 3
failures = 2
[memory]
enabled = false
start = 1
interval = 1
width = 1
elites = 1
stagnation = 1
[confirm]
top = 0
seeds = 1
epochs = 9
data_fraction = 1
width = 1
budget = 2
[executor]
kind = "local"
workers = 2
batch = 4
mode = "batch"
seconds = 1.5
memory_gb = 2
devices = ["0", "1"]
grace = 0
[pruner]
name = "successive_halving"
min_resource = 2
reduction_factor = 2
[store]
url = "sqlite:///x.db"
[run]
name = "mine"
seed = 3
folder = "elsewhere"
"""


def test_a_file_with_every_key(tmp_path: Path) -> None:
    run_file = load_run_file(written(tmp_path, WHOLE))
    assert run_file.space.settings == {"channels": 8}
    dumped = run_file.model_dump()
    for name, field in RunFile.model_fields.items():
        section = getattr(run_file, name)
        if not isinstance(section, SettingsModel):  # objectives stand in place of [objective]
            continue
        assert section.model_fields_set >= set(type(section).model_fields) - {"path"}, name
        assert field is not None and dumped[name]
    assert run_file.constraints == ["params_m <= 1", "latency_ms <= 5"]
    assert run_file.budget.target == -1.0 and run_file.executor.devices == ["0", "1"]


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        (
            'kind = "table"\npath = "x.npz"\nmetric = "m"\npositions = ["a"]\nknown = ["m"]\n'
            'join = ["y.npz"]',
            TableSettings,
        ),
        ('kind = "python"\nfunction = "m:f"\nbudget = 2', PythonSettings),
        ('kind = "command"\ncommand = "./train.sh"\nmetric = "acc"', CommandSettings),
        ('kind = "command"\ncommand = ["python", "x.py"]\ndeterministic = false', CommandSettings),
    ],
)
def test_each_kind_of_evaluator(tmp_path: Path, section: str, kind: type[SettingsModel]) -> None:
    text = f'[space]\nname = "nb201"\n[evaluator]\n{section}\n'
    assert isinstance(load_run_file(written(tmp_path, text)).evaluator, kind)


def test_a_table_brings_its_own_space(tmp_path: Path) -> None:
    text = '[evaluator]\nkind = "table"\npath = "x.npz"\nmetric = "m"\n'
    assert load_run_file(written(tmp_path, text)).space.name is None


P = '[space]\nname = "nb201"\n[evaluator]\nkind = "python"\nfunction = "m:f"\n'
NO_SPACE = '[evaluator]\nkind = "python"\nfunction = "m:f"\n'
TWO = """
[[objectives]]
metric = "acc"
direction = "max"
[[objectives]]
metric = "params"
direction = "min"
"""
BAD = {
    # unknown sections and keys, with the nearest
    P + "[bugdet]\ntrials = 4": "unknown key 'bugdet'; did you mean 'budget'?",
    P + "[table]\nx = 1": "unknown key 'table'",
    P + "[train]\nepochs = 1": "unknown key 'train'",
    "trials = 4\n" + P: "unknown key 'trials'",
    P + "[budget]\ntrails = 4": "unknown key in [budget] 'trails'; did you mean 'trials'?",
    P + "[ranker]\nnme = 'tpe'": "unknown key in [ranker] 'nme'; did you mean 'name'?",
    P + "[run]\nsed = 1": "unknown key in [run] 'sed'; did you mean 'seed'?",
    P + "[memory]\non = true": "unknown key in [memory] 'on'",
    P + "functoin = 'x'": "unknown key in [evaluator] 'functoin'; did you mean 'function'?",
    P + "command = 'x'": "unknown key in [evaluator] 'command'",
    P + "table = 'x'": "unknown key in [evaluator] 'table'",
    # the evaluator
    '[space]\nname = "nb201"\n': "[evaluator] is missing",
    '[space]\nname = "nb201"\n[evaluator]\nx = 1': "kind is missing (accepted: command, lora,",
    '[space]\nname = "nb201"\n[evaluator]\nkind = "trian"': (
        "[evaluator]: unknown kind 'trian'; did you mean 'train'?"
    ),
    '[space]\nname = "nb201"\n[evaluator]\nkind = 3': "[evaluator]: unknown kind '3'",
    'evaluator = "train"\n[space]\nname = "nb201"\n': "[evaluator] = 'train'",
    '[space]\nname = "nb201"\n[evaluator]\nkind = "python"': "[evaluator] function is missing",
    '[evaluator]\nkind = "table"\npath = "x.npz"': "[evaluator] metric is missing",
    '[space]\nname = "nb201"\n[evaluator]\nkind = "command"\ncommand = 3': (
        "[evaluator] command = 3: input should be a valid string"
    ),
    '[space]\nname = "nb201"\n[evaluator]\nkind = "train"\nepochs = 0': "[evaluator] epochs = 0",
    # the space
    NO_SPACE: '[space] is missing; give name = "nb201" or path = "my-space.toml"',
    NO_SPACE + "[space]\n": "[space] is missing",
    NO_SPACE + '[space]\nname = "a"\npath = "b"': "has both name and path; give one of them",
    NO_SPACE + '[space]\npaht = "b"': "unknown key in [space] 'paht'; did you mean 'path'?",
    NO_SPACE + '[space]\npath = "b"\nchannels = 3': "unknown key in [space] 'channels'",
    "space = 'nb201'\n" + NO_SPACE: "[space] = 'nb201'",
    NO_SPACE + "[space]\nname = 3": "[space] name = 3: input should be a valid string",
    # values
    P + "[budget]\ntrials = -5": "[budget] trials = -5: input should be greater than or equal to 1",
    P + "[budget]\ntrials = 0": "[budget] trials = 0",
    P + "[budget]\ntrials = 'many'": "[budget] trials = 'many': input should be a valid integer",
    P + "[budget]\ntrials = 2.5": "[budget] trials = 2.5",
    P + "[budget]\nhours = -1": "[budget] hours = -1: input should be greater than 0",
    P + "[budget]\nhours = inf": "[budget] hours = inf: input should be a finite number",
    P + "[budget]\ntarget = nan": "[budget] target = nan: input should be a finite number",
    P + "[budget]\npatience = 0": "[budget] patience = 0",
    P + "[budget]\nfailures = 0": "[budget] failures = 0",
    P + "budget = -1": "[evaluator] budget = -1: input should be greater than 0",
    P + "[objective]\ndirection = 'up'": "direction = 'up': input should be 'max' or 'min'",
    P + TWO.replace("min", "less"): "[objectives.1] direction = 'less': input should be 'max' or",
    P + TWO.replace("params", "acc"): "objectives: 'acc' is given twice; each metric once",
    P + TWO + "unit = 'm'": "unknown key in [objectives.1] 'unit' (accepted: direction, metric)",
    P + "[[objectives]]\nmetric = 'acc'": "[objectives.0] direction is missing",
    P + TWO + "[objective]\nmetric = 'a'": "[objective] and objectives are both given; give one",
    P + TWO + "[budget]\ntarget = 1.0": "[budget] target works with one objective",
    P + TWO + "[pruner]\nname = 'median'": "[pruner] name: trials are stopped early with one",
    "objectives = 3\n" + P: "[objectives] = 3: input should be a valid list",
    "objectives = ['acc']\n" + P: "[objectives.0] = 'acc': input should be",
    "constraints = 'a <= 1'\n" + P: "[constraints] = 'a <= 1': input should be a valid list",
    "constraints = ['a < 1']\n" + P: "constraint 'a < 1'; accepted: a metric, <= or >=, and a",
    "constraints = ['a <= x']\n" + P: "constraint 'a <= x'; accepted: a metric, <= or >=, and a",
    "constraints = ['a <= 1', 'a<=1.0']\n" + P: "constraints: 'a<=1.0' is given twice",
    P + "[ranker]\npool = 0": "[ranker] pool = 0",
    P + "[ranker]\ninitial = -1": "[ranker] initial = -1",
    P + "[executor]\nworkers = 0": "[executor] workers = 0",
    P + "[executor]\nseconds = 0": "[executor] seconds = 0",
    P + "[executor]\ngrace = inf": "[executor] grace = inf",
    P + "[executor]\ndevices = '0'": "[executor] devices = '0': input should be a valid list",
    P + "[executor]\ndevices = ['0', 1]": "[executor] devices.1 = 1: input should be a valid",
    P + "[pruner]\nname = 'halving'": "[pruner] name = 'halving': input should be 'none',",
    P + "[pruner]\nreduction_factor = 1": "[pruner] reduction_factor = 1",
    P + "[run]\nseed = -1": "[run] seed = -1",
    P + "[run]\nseed = 2147483648": "[run] seed = 2147483648",
    P + "[run]\nname = '../up'": "[run]: name '../up'; accepted: up to 100 letters, digits",
    P + "[run]\nname = ''": "[run]: name ''; accepted",
    P + "[run]\nname = 'a b'": "[run]: name 'a b'",
    P + "[confirm]\ntop = -1": "[confirm] top = -1",
    P + "[memory]\nwidth = 0": "[memory] width = 0",
    P + "[memory]\nenabled = 'perhaps'": "[memory] enabled = 'perhaps'",
    P + "memory = 3": "unknown key in [evaluator] 'memory'",
    "memory = 3\n" + P: "[memory] = 3: input should be",
    # more than one, and no TOML at all
    P + "[budget]\ntrials = 0\nhours = 0\npatience = 0": "(and 2 more)",
    "[space\n": "is no valid TOML",
    "[a]\n[a]\n": "is no valid TOML",
    "": "[evaluator] is missing",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_each_mistake_is_one_line_that_names_the_place(tmp_path: Path, text: str) -> None:
    assert BAD[text] in refused(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run file '.*nowhere\.toml': No such file"):
        load_run_file(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_run_file(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match="is no valid TOML"):
        load_run_file(tmp_path / "latin.toml")


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, P + "[budget]\ntrials = 5\npatience = 2\n")
    run_file = load_run_file(path, {"budget": {"trials": 9}, "run": {"seed": 4}})
    assert run_file.budget.trials == 9 and run_file.budget.patience == 2 and run_file.run.seed == 4
    with pytest.raises(ConfigError, match=r"\[budget\] trials = -1"):
        load_run_file(path, {"budget": {"trials": -1}})
    with pytest.raises(ConfigError, match=r"\[budget\] = 3"):
        load_run_file(written(tmp_path, "budget = 3\n" + P), {"budget": {"trials": 1}})


def test_flags_replace_the_objectives_of_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, P + "[objective]\nmetric = 'acc'\n")
    two = [{"metric": "a", "direction": "max"}, {"metric": "b", "direction": "min"}]
    given = {"objective": None, "objectives": two, "constraints": ["b <= 3"]}
    run_file = load_run_file(path, given)
    assert [entry.metric for entry in run_file.objectives] == ["a", "b"]
    assert run_file.constraints == ["b <= 3"] and run_file.metric == "a"
    assert load_run_file(path).metric == "acc"


def test_a_table_takes_its_metric_from_the_objectives(tmp_path: Path) -> None:
    table = "[evaluator]\nkind = 'table'\npath = 'x.npz'\n"
    assert load_run_file(written(tmp_path, table + TWO)).metric == "acc"
    one = table + "[objective]\nmetric = 'loss'\n"
    assert load_run_file(written(tmp_path, one)).metric == "loss"


@pytest.mark.parametrize(
    ("budget", "trials"),
    [("", 100), ("[budget]\npatience = 3", 100), ("[budget]\nhours = 2", None),
     ("[budget]\ntrials = 3\nhours = 2", 3)],
)  # fmt: skip
def test_there_is_always_a_limit(tmp_path: Path, budget: str, trials: int | None) -> None:
    assert load_run_file(written(tmp_path, P + budget)).budget.trials == trials


OF_MODELS = """
prompt = "ncode"
candidates = 12
context = 4096
fallback = "evolution"
key_env = "MY_KEY"
timeout = 9
attempts = 2
retry_seconds = 30
backoff = 0
reply_tokens = 64
max_tokens_total = 100000
max_cost = 2
price_in = 0.5
price_out = 1.5
"""


def test_a_ranker_has_the_keys_that_it_takes(tmp_path: Path) -> None:
    endpoint = P + "[ranker]\nname = 'endpoint:m@http://x'" + OF_MODELS
    ranker = load_run_file(written(tmp_path, endpoint)).ranker
    assert set(type(ranker).model_fields) == ranker.model_fields_set | {"initial", "pool"}
    assert ranker.settings["context"] == 4096
    lm = P + "[ranker]\nname = 'lm:there'\nmode = 'generate'\nlisted = 5"
    assert load_run_file(written(tmp_path, lm)).ranker.settings["listed"] == 5
    for name, key in (("tpe", "weights"), ("local", "prompt"), ("lm:x", "price_in")):
        message = refused(tmp_path, P + f"[ranker]\nname = '{name}'\n{key} = 'x'")
        assert f"unknown key in [ranker] '{key}'" in message


def test_stored_settings_of_earlier_versions_are_read() -> None:
    """They name every key of every ranker; a key without a value counts as left out."""
    stored = {"name": "tpe", "initial": 5, "pool": 1000, "weights": None, "prompt": None}
    assert ranker_settings(stored).name == "tpe"
    assert settings_of({"ranker": stored}).ranker.initial == 5


def models(model: type[SettingsModel]) -> Iterator[type[SettingsModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, SettingsModel):
            yield from models(field.annotation)


ALL = {
    *models(RunFile),
    *(EVALUATORS[kind] for kind in EVALUATORS),
    *(MODELS[name] for name in MODELS),
}


@pytest.mark.parametrize("model", sorted(ALL, key=lambda m: m.__name__), ids=lambda m: m.__name__)
def test_every_key_has_help_and_no_value_can_be_changed(model: type[SettingsModel]) -> None:
    assert model.__doc__ and model.model_config["frozen"]
    for name, field in model.model_fields.items():
        if name == "kind":  # each kind's own word
            continue
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, SettingsModel)
        assert nested or help_of(model, name), f"{model.__name__}.{name}"


def help_of(model: type[SettingsModel], name: str) -> str:
    schema: Mapping[str, Any] = model.model_json_schema()["properties"][name]
    return str(schema.get("description") or schema["anyOf"][0]["description"])


def test_a_setting_is_checked_wherever_it_is_given() -> None:
    with pytest.raises(ConfigError, match=r"memory: start = 0"):
        Memory(start=0)
    with pytest.raises(ConfigError, match="unknown key 'begin'"):
        Memory(begin=3)


def test_every_key_of_a_flat_section_is_a_keyword_of_the_python_api() -> None:
    places = keywords()
    assert {"trials", "ranker", "pool", "weights", "workers", "seed", "metric", "store"} <= set(
        places
    )
    wanted = [
        (section, key)
        for section in FLAT
        for key in type(Settings.model_fields[section].default).model_fields
        if SHORT.get(section) != key
    ]
    assert len({key for _, key in wanted}) == len(wanted), "no two sections share a keyword"
    assert all(places[key] == (section, key) for section, key in wanted)


def test_keywords_of_the_python_api() -> None:
    settings = settings_of({"ranker": "tpe", "trials": 3, "store": "memory", "seed": None})
    assert (settings.ranker.name, settings.budget.trials, settings.store.url) == (
        "tpe",
        3,
        "memory",
    )
    assert settings_of({"memory": {"enabled": False}}).memory.enabled is False
    for given, message in (
        ({"trails": 3}, "Search: unknown keyword 'trails'; did you mean 'trials'?"),
        ({"trials": -3}, "Search: [budget] trials = -3"),
        ({"memory": {"start": 0}}, "Search: [memory] start = 0"),
        ({"memory": {"begin": 0}}, "Search: unknown key in [memory] 'begin'"),
        ({"memory": 3}, "Search: [memory] = 3"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            settings_of(given)
