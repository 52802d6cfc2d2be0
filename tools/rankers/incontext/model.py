"""The network: a set transformer over trials, options and candidates.

In each block trials attend to trials and candidates attend to trials; options are updated from
the trials that have them, and trials and candidates from their options.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from lm_searcher.tools.rankers.incontext.features import (
    CANDIDATE_FEATURES,
    GLOBAL_FEATURES,
    TRIAL_FEATURES,
    NetworkInputs,
)
from lm_searcher.tools.rankers.incontext.history import OPTION_FEATURES
from lm_searcher.tools.rankers.incontext.kernels import RELATIONS

FORMAT = 1
"""The weights' format; increased when the features or the network change their meaning."""


class InContextConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes of the network, the weight of exploration (see InContextModel.acquisition), and the
    FORMAT it was trained with.

    Files of earlier versions have `courage` for `exploration`.
    """

    model_type = "lm-searcher-incontext"

    def __init__(
        self,
        width: int = 112,
        option_width: int = 48,
        layers: int = 4,
        heads: int = 4,
        exploration: float = 0.0,
        format: int = FORMAT,
        **kwargs: Any,
    ) -> None:
        if "courage" in kwargs:
            exploration = kwargs.pop("courage")
        if min(width, option_width, layers, heads) < 1 or width % heads:
            raise ValueError(f"sizes {width}, {option_width}, {layers}, {heads} make no network")
        self.width = width
        self.option_width = option_width
        self.layers = layers
        self.heads = heads
        self.exploration = exploration
        self.format = format
        super().__init__(**kwargs)


def _mlp(size: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, out)
    )


class Block(nn.Module):
    """Attention to the trials, a sum over the row's options, a feed-forward step.

    Each head shifts its attention logits by a learnt mix of similarities of the two
    architectures, so that a head can act as a kernel smoother.
    """

    def __init__(self, config: InContextConfig, last: bool) -> None:
        super().__init__()
        d, e = config.width, config.option_width
        self.heads = config.heads
        self.norm = nn.LayerNorm(d)
        self.query = nn.Linear(d, d)
        self.key_value = nn.Linear(d, 2 * d)
        self.relation = nn.Linear(RELATIONS, config.heads, bias=False)
        self.join = nn.Linear(d, d)
        self.option_norm = nn.LayerNorm(e)
        self.from_options = nn.Linear(e, d)
        self.feed_norm = nn.LayerNorm(d)
        self.feed = _mlp(d, 2 * d, d)
        if not last:  # nothing reads the options after the last block
            self.to_options = nn.Linear(d, e)
            self.update = _mlp(4 * e, 2 * e, e)

    def keys(self, trials: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and the values of trials [b, t, d]: each [b, heads, t, d / heads]."""
        b, t, _ = trials.shape
        both = self.key_value(self.norm(trials)).view(b, t, 2, self.heads, -1)
        return both[:, :, 0].transpose(1, 2), both[:, :, 1].transpose(1, 2)

    def forward(
        self, rows: Tensor, keys: tuple[Tensor, Tensor], relations: Tensor, options: Tensor
    ) -> Tensor:
        """Trials or candidates `rows` [b, n, d] after this block.

        `relations` is [b, relations, n, t]; `options` [b, n, e] is the sum of the rows' options.
        """
        b, n, d = rows.shape
        query = self.query(self.norm(rows)).view(b, n, self.heads, -1).transpose(1, 2)
        # r: relation, h: head. The weight is used as a matrix [h, r] to keep the head second.
        shift = torch.einsum("brnt,hr->bhnt", relations, self.relation.weight)
        logits = query @ keys[0].transpose(2, 3) * query.shape[-1] ** -0.5 + shift
        mixed = (torch.softmax(logits, dim=3) @ keys[1]).transpose(1, 2).reshape(b, n, d)
        rows = rows + self.join(mixed) + self.from_options(options)
        return cast(Tensor, rows + self.feed(self.feed_norm(rows)))


class InContextModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Scores candidates with two heads, each up to a constant of the batch.

    The best head gives the logarithm of the probability that a candidate is the best of the
    pool; the value head gives the logarithm of softmax(4 z), where z are the z-scores of the
    true values. Candidates do not attend to each other, so a score does not depend on the other
    candidates.
    """

    config_class = InContextConfig
    base_model_prefix = "incontext"

    def __init__(self, config: InContextConfig) -> None:
        super().__init__(config)
        d, e = config.width, config.option_width
        self.read_option = _mlp(OPTION_FEATURES, 2 * e, e)
        self.read_trial = _mlp(TRIAL_FEATURES, d, d)
        self.read_candidate = _mlp(CANDIDATE_FEATURES, d, d)
        self.read_whole = nn.Linear(GLOBAL_FEATURES, d)
        self.blocks = nn.ModuleList(
            Block(config, last=i == config.layers - 1) for i in range(config.layers)
        )
        self.norm = nn.LayerNorm(d)
        self.score = nn.Linear(d, 2)
        self.direct = nn.Linear(CANDIDATE_FEATURES, 2, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Block):
            finals = [module.join, module.from_options, module.feed[2]]
            if hasattr(module, "update"):
                finals.append(module.update[2])
            for final in finals:
                nn.init.normal_(cast(Tensor, final.weight), std=0.02)
            nn.init.normal_(module.relation.weight, std=2.0)
        elif isinstance(module, InContextModel):
            nn.init.zeros_(module.direct.weight)
            nn.init.normal_(module.score.weight, std=0.02)

    def forward(self, x: NetworkInputs) -> Tensor:
        """Scores [b, candidates, 2], of the best head and of the value head."""
        # A sum over p options is divided by sqrt(p): its variance does not grow with the space.
        root = x.positions.rsqrt()[:, None, None]
        whole = self.read_whole(x.global_features)[:, None]
        options = self.read_option(x.option_features)
        trials = self.read_trial(x.trial_features) + whole
        rows = self.read_candidate(x.candidate_features) + whole
        # Means over the trials with an option, over the group's equal options, over near ones.
        across = x.trial_member.transpose(1, 2)
        share = across / (across.sum(2, keepdim=True) + 1)
        kin = x.same / x.same.sum(2, keepdim=True).clamp(min=1)
        near = x.near / x.near.sum(2, keepdim=True).clamp(min=1e-3)
        for index, module in enumerate(self.blocks):
            block = cast(Block, module)
            keys = block.keys(trials)
            normed = block.option_norm(options)
            rows = block(rows, keys, x.relations, x.member @ normed * root)
            if index == len(self.blocks) - 1:
                break
            trials = block(trials, keys, x.trial_relations, x.trial_member @ normed * root)
            seen = share @ block.to_options(block.norm(trials))  # [b, m, e]
            options = options + block.update(torch.cat([normed, seen, near @ seen, kin @ seen], 2))
        scores = self.score(self.norm(rows)) + self.direct(x.candidate_features)
        return cast(Tensor, scores)

    def acquisition(self, x: NetworkInputs) -> Tensor:
        """The acquisition value of each candidate, [b, candidates]; the highest is evaluated next.

        The score of the best head, plus `exploration` times the logarithm of the surrogates'
        standard deviation, since a search goes on after this pick.
        """
        best_head = cast(Tensor, self(x))[..., 0]
        log_deviation = x.candidate_features[..., 2]  # see features._predictions
        return best_head + float(self.config.exploration) * log_deviation
