"""CLIP-T and CLIP-I: the similarity of generated images to their captions and to real images.

Cosine similarities in the embedding of CLIP (Radford et al., arXiv 2103.00020), as DreamBooth
(arXiv 2208.12242, section 4.2) scores subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD


@dataclass(frozen=True)
class ClipEmbedding:
    """Embeds texts and images as vectors of length 1."""

    model: Any
    """A CLIPModel, on its device."""
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> ClipEmbedding:
        """Load a directory's model. Nothing is downloaded, and no code of the model is run."""
        model: Any = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(model.to(device).eval(), tokenizer)

    def texts(self, captions: Sequence[str]) -> Tensor:
        """Embeddings of captions, [n, dimensions]."""
        encoded = self.tokenizer(
            list(captions),
            padding="max_length",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.model.device)
        with torch.no_grad():
            features = self.model.get_text_features(
                input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]
            )
        return functional.normalize(features.pooler_output, dim=-1)

    def images(self, images: Tensor) -> Tensor:
        """Embeddings of images [n, 3, h, h] from 0 to 1: [n, dimensions]."""
        size = self.model.config.vision_config.image_size
        device = self.model.device
        # As CLIPImageProcessor: bicubic to the model's size, then normalised per channel.
        resized = functional.interpolate(
            images.to(device), (size, size), mode="bicubic", antialias=True
        )
        mean, std = (
            torch.tensor(v, device=device)[:, None, None]
            for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
        )
        with torch.no_grad():
            features = self.model.get_image_features(
                pixel_values=(resized.clamp(0, 1) - mean) / std
            )
        return functional.normalize(features.pooler_output, dim=-1)


def clip_t(images: Tensor, captions: Tensor) -> float:
    """The mean similarity of each image [n, d] with its own caption [n, d], from -1 to 1."""
    return float((images * captions).sum(-1).mean())


def clip_i(images: Tensor, real: Tensor) -> float:
    """The mean similarity of all pairs of a generated [n, d] and a real image [m, d]."""
    return float((images @ real.T).mean())
