"""The LoRA space: what it adapts, what that costs, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import SamConfig, SamModel

from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.lora.bases import EMBEDDED, untrained
from lm_searcher.spaces.lora.network import attach, build
from lm_searcher.spaces.lora.space import Adapters, lora
from lm_searcher.spaces.lora.targets import find_targets, grouped
from lm_searcher.spaces.space import SearchSpace

LANGUAGE = "builtin:language"


def added(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class Odd(nn.Module):
    """One of each kind of module."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.conv = nn.Conv2d(6, 8, (3, 5), padding=(1, 2), stride=2)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4)
        self.line = nn.Conv1d(12, 5, 2)
        self.dilated = nn.Conv2d(3, 3, 3, dilation=2)
        self.norm = nn.LayerNorm(5)
        self.attention = nn.MultiheadAttention(8, 2)
        self.q = nn.Linear(5, 3)
        self.inner = nn.ModuleDict({"q": nn.Linear(7, 2)})


def test_the_defaults() -> None:
    space = builtin("lora")
    assert len(space.positions) == 12 and space.size == 4**12
    assert all(p.choices == (0, 2, 4, 8) and p.ordered for p in space.positions)
    assert space.positions[0].name == "model.layers.0.self_attn.q_proj"
    json.dumps(dict(space.settings))  # the store keeps them


def test_what_is_known_of_a_base_without_building_it_is_so() -> None:
    outlined = {name: base for name, base in EMBEDDED.items() if base.outline}
    assert LANGUAGE in outlined
    for name, base in outlined.items():
        assert base.outline is not None
        outline, real = base.outline(), Adapters.on(untrained(name), base.targets, None, None)
        by_name = {t.name: t.per_rank for (t,) in real.groups.values()}
        assert list(outline.per_rank.items()) == list(by_name.items())
        assert outline.parameters == real.base_parameters


def test_a_list_of_spaces_loads_no_framework() -> None:
    code = (
        "import sys; from lm_searcher.spaces.builtin import builtin; builtin('lora')\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def detach(model: nn.Module, names: Iterable[str]) -> None:
    for name in names:
        adapted: Any = model.get_submodule(name)
        model.set_submodule(name, adapted.get_base_layer())


@pytest.mark.slow
def test_codes_build_and_cost_what_they_say(
    ncodes_of: Callable[[SearchSpace], list[str]],
) -> None:
    space = lora(targets=["q_proj", "down_proj"], ranks=[0, 1, 3, 8], alphas=[4, 8.5])
    model = untrained(LANGUAGE, "cpu")
    tokens = torch.arange(12).view(2, 6)
    before = model(input_ids=tokens).logits
    everything = sum(p.numel() for p in model.parameters())
    assert space.cost is not None
    for i, ncode in enumerate(ncodes_of(space)):
        config = space.decode(ncode)
        adapters = Adapters.on(model, space.settings["targets"], None, None).of(config)
        attach(model, adapters)
        cost = space.cost(config, in_channels=3, image_size=32)
        assert cost["lora_params_m"] == added(model) / 1e6
        assert cost["trainable_share"] == added(model) / (everything + added(model))
        if i % 50 == 0 and adapters:
            out = model(input_ids=tokens).logits
            assert torch.equal(out, before)  # the second factor is zero
            out.square().mean().backward()
            learned = {n for n, p in model.named_parameters() if p.grad is not None}
            assert learned == {n for n, p in model.named_parameters() if p.requires_grad}
            assert len(learned) == 2 * len(adapters)
            for name, (rank, alpha) in adapters.items():
                layer: Any = model.get_submodule(name)
                assert (layer.r["default"], layer.scaling["default"]) == (rank, alpha / rank)
        detach(model, adapters)
    assert torch.equal(model(input_ids=tokens).logits, before)


def test_no_adapter_at_all_freezes_the_base() -> None:
    space = lora(targets=["q_proj"])
    model = build(space.decode("000"), **space.settings)
    assert added(model) == 0
    assert space.cost is not None and space.cost(space.decode("000"))["lora_params_m"] == 0


def test_alpha_follows_the_rank_unless_it_is_given() -> None:
    config = {"a": 4, "b": 0, "alpha a": 8, "alpha b": 8}
    groups = grouped(
        find_targets(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}), "ab")
    )
    assert Adapters(groups, None, 0).of({"a": 4, "b": 0}) == {"a": (4, 8.0)}
    assert Adapters(groups, 3, 0).of({"a": 4, "b": 1}) == {"a": (4, 3.0), "b": (1, 3.0)}
    assert Adapters(groups, None, 0).of(config | {"alpha a": 16}) == {"a": (4, 16.0)}


def test_the_alpha_of_no_adapter_means_nothing() -> None:
    space = lora(targets=["q_proj"], ranks=[0, 4], alphas=[8, 16])
    assert [p.name for p in space.positions[3:]] == [
        f"alpha model.layers.{i}.self_attn.q_proj" for i in range(3)
    ]
    assert space.canonical("010111") == "010010"
    assert lora(targets=["q_proj"], ranks=[2, 4], alphas=[8, 16]).canonical("010111") == "010111"


def test_each_kind_of_module_is_counted_as_peft_makes_it() -> None:
    targets = ["words", "conv", "grouped", "line", "q"]
    requests = {
        "words": 11 + 6,
        "conv": 6 * 15 + 8,
        "grouped": 8 * 9 + 12 // 4,
        "line": 12 * 2 + 5,
        "q": 5 + 3,
        "inner.q": 7 + 2,
    }
    found = find_targets(Odd(), targets)
    assert {t.name: t.per_rank for t in found} == requests
    assert {t.name: t.multiple for t in found if t.multiple > 1} == {"grouped": 4}
    for name, per_rank in requests.items():  # "q" alone: peft itself would take "inner.q" as well
        model = Odd()
        attach(model, {name: (4, 8.0)})
        assert added(model) == 4 * per_rank, name
    adapted = Odd()
    attach(adapted, {"conv": (2, 4.0)})
    assert adapted.conv(torch.zeros(1, 6, 9, 9)).shape == (1, 8, 5, 5)


def test_a_patterns_last_parts_and_wildcards() -> None:
    names = [t.name for t in find_targets(Odd(), ["inner.?"])]
    assert names == ["inner.q"]
    assert [t.name for t in find_targets(Odd(), ["*con[v]", "words", "conv"])] == ["words", "conv"]


def test_groups_share_a_decision() -> None:
    space = lora(targets=["q_proj", "v_proj"], group=r"layers\.\d+", ranks=[0, 1])
    assert [p.name for p in space.positions] == ["layers.0", "layers.1", "layers.2"]
    model = build(space.decode("010"), **space.settings)
    assert added(model) == 2 * 2 * 96
    by_kind = lora(targets=["q_proj", "v_proj"], group=r"\.([a-z])_proj")
    assert [p.name for p in by_kind.positions] == ["q", "v"]


def test_sam_has_the_papers_32_positions(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 16, "image_size": 32}
    vision = small | {"num_hidden_layers": 12, "patch_size": 8, "output_channels": 8}
    config = SamConfig(vision_config=vision, architectures=["SamModel"])
    config.save_pretrained(tmp_path)
    space = lora(
        str(tmp_path),
        targets=[
            "vision_encoder.layers.*.attn.qkv",
            "vision_encoder.layers.*.attn.proj",
            "mask_decoder.transformer.layers.*.cross_attn_*.[qv]_proj",
        ],
        ranks=[3, 6, 12, 24],
    )
    assert len(space.positions) == 32
    with torch.device("meta"):
        model = SamModel(config)
    adapters = Adapters.on(model, space.settings["targets"], None, None)
    assert list(adapters.groups) == [p.name for p in space.positions]


def test_a_stable_diffusion_unet_has_the_papers_48_groups(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    folder = tmp_path / "unet"
    folder.mkdir()
    config = {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [8, 8, 8, 8],
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 8,
        "sample_size": 8,
    }
    (folder / "config.json").write_text(json.dumps(config))
    space = lora(
        str(tmp_path),  # the pipeline's own folder
        targets=["attn?.to_[qkv]", "attn?.to_out.0", "ff.net.0.proj", "ff.net.2"],
        group=r".*transformer_blocks\.\d+\.(?:attn1|attn2|ff)",
        ranks=[4, 8, 16],
    )
    assert len(space.positions) == 48


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"targets": ["nothing"]}, "targets: 'nothing' matches no module of the base"),
    ({"targets": ["self_attn"]}, "self_attn' is a LlamaAttention, which LoRA cannot adapt"),
    ({"targets": []}, "targets = [];"),
    ({"targets": "q_proj"}, "targets = 'q_proj'; accepted: a list"),
    ({"targets": [3]}, "targets = [3];"),
    ({"ranks": [0, 2.5]}, "ranks = [0, 2.5]; accepted: 2 to 36 different integers from 0"),
    ({"ranks": [0, True]}, "ranks = [0, True];"),
    ({"ranks": [0, "4"]}, "ranks = [0, '4'];"),
    ({"ranks": 4}, "ranks = 4;"),
    ({"ranks": "48"}, "ranks = '48';"),
    ({"ranks": [-1, 4]}, "ranks = [-1, 4];"),
    ({"ranks": [4, 4]}, "ranks = [4, 4]; accepted: 2 to 36 different"),
    ({"ranks": [4]}, "ranks = [4];"),
    ({"ranks": range(37)}, "ranks = range(0, 37);"),
    ({"alphas": [8]}, "alphas = [8]; accepted: 2 or more different numbers > 0"),
    ({"alphas": [8, 0]}, "alphas = [8, 0];"),
    ({"alphas": [8, 8.0]}, "alphas = [8, 8.0];"),
    ({"alpha": -1}, "alpha = -1; accepted: a number > 0"),
    ({"alpha": 1, "alphas": [1, 2]}, "both alpha and alphas"),
    ({"group": "("}, "group = '(' is no regular expression"),
    ({"group": "nowhere"}, "group = 'nowhere' does not match target 'model.layers.0"),
    ({"group": 3}, "group = 3; accepted: a regular expression"),
    ({"base": "builtin:languag"}, "did you mean 'builtin:language'?"),
    ({"base": "/no/such/folder", "targets": ["q"]}, "base '/no/such/folder': no such directory"),
    ({"base": "some/model"}, "targets is missing"),
    ({"base": 7}, "base = 7; accepted:"),
]


@pytest.mark.parametrize(("settings", "said"), REFUSED, ids=lambda x: str(x)[:40])
def test_what_makes_no_sense_is_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        lora(**settings)
    text = str(caught.value)
    assert said in text and text.startswith("space 'lora'") and "\n" not in text


@pytest.mark.parametrize("target", ["dilated", "norm", "attention", "out_proj", "inner"])
def test_modules_that_lora_cannot_adapt(target: str) -> None:
    with pytest.raises(SpaceError, match="which LoRA cannot adapt"):
        find_targets(Odd(), [target])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "no config.json"),
        ("{", "config.json makes no model"),
        ('{"model_type": "llama"}', "it names no architectures"),
        ('{"model_type": "unheard"}', "config.json makes no model"),
        ('{"_class_name": "Unheard"}', "config.json makes no model"),
    ],
)
def test_a_folder_that_makes_no_model(config: str | None, said: str, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(SpaceError) as caught:
        lora(str(tmp_path), targets=["q_proj"])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_rank_that_a_convolutions_groups_do_not_divide(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from transformers import ConvNextConfig

    ConvNextConfig(
        hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, architectures=["ConvNextModel"]
    ).save_pretrained(tmp_path)
    with pytest.raises(SpaceError, match="a convolution of 4 groups; accepted: multiples of 4"):
        lora(str(tmp_path), targets=["dwconv"], ranks=[0, 2])
    assert len(lora(str(tmp_path), targets=["dwconv"], ranks=[0, 8]).positions) == 2


def test_adapters_of_a_bfloat16_base_are_float32() -> None:
    model = untrained(LANGUAGE, "cpu").to(torch.bfloat16)
    attach(model, {"model.layers.0.self_attn.q_proj": (4, 8.0)})
    kinds = {p.requires_grad: p.dtype for p in model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    loss = model(input_ids=torch.ones(1, 8, dtype=torch.long)).logits.float().sum()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
