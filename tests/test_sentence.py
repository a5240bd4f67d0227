"""The sentence encoder: its mathematics, held to torch's own transformer layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lsd.pipeline.errors import WeightsError
from lsd.stages.models.sentence import HEADS, NORM_EPS, SentenceEncoder

VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "red", "green", "sea", "##side"]
WIDTH = 24
LAYERS = 2


def random_weights() -> dict[str, Tensor]:
    """A BERT of two layers; the names are those of its checkpoints."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.3

    weights = {
        "embeddings.word_embeddings.weight": draw(len(VOCABULARY), WIDTH),
        "embeddings.position_embeddings.weight": draw(16, WIDTH),
        "embeddings.token_type_embeddings.weight": draw(2, WIDTH),
    }
    linears = {
        "attention.self.query": (WIDTH, WIDTH),
        "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH),
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (4 * WIDTH, WIDTH),
        "output.dense": (WIDTH, 4 * WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        for name, shape in linears.items():
            weights[f"encoder.layer.{layer}.{name}.weight"] = draw(*shape)
            weights[f"encoder.layer.{layer}.{name}.bias"] = draw(shape[0])
        norms += [
            f"encoder.layer.{layer}.attention.output.LayerNorm",
            f"encoder.layer.{layer}.output.LayerNorm",
        ]
    for name in norms:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + draw(WIDTH), draw(WIDTH)
    return weights


def torch_layer(weights: dict[str, Tensor], name: str) -> nn.TransformerEncoderLayer:
    """Torch's own post-norm layer with the same weights."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", NORM_EPS, batch_first=True
    )
    parts = [f"{name}attention.self.{part}." for part in ("query", "key", "value")]
    state = {
        "self_attn.in_proj_weight": torch.cat([weights[f"{part}weight"] for part in parts]),
        "self_attn.in_proj_bias": torch.cat([weights[f"{part}bias"] for part in parts]),
    }
    for ours, theirs in (
        ("attention.output.dense", "self_attn.out_proj"),
        ("intermediate.dense", "linear1"),
        ("output.dense", "linear2"),
        ("attention.output.LayerNorm", "norm1"),
        ("output.LayerNorm", "norm2"),
    ):
        for kind in ("weight", "bias"):
            state[f"{theirs}.{kind}"] = weights[f"{name}{ours}.{kind}"]
    layer.load_state_dict(state)
    return layer


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(random_weights(), VOCABULARY)


def test_encoder_agrees_with_torchs_transformer_layers(encoder: SentenceEncoder) -> None:
    weights = random_weights()
    ids = torch.tensor([[1, 3, 5, 6, 2]])  # [CLS] red sea ##side [SEP]
    with torch.no_grad():
        x = weights["embeddings.word_embeddings.weight"][ids]
        x = x + weights["embeddings.position_embeddings.weight"][:5]
        x = x + weights["embeddings.token_type_embeddings.weight"][0]
        norm = "embeddings.LayerNorm."
        x = nn.functional.layer_norm(
            x, (WIDTH,), weights[f"{norm}weight"], weights[f"{norm}bias"], NORM_EPS
        )
        for layer in range(LAYERS):
            x = torch_layer(weights, f"encoder.layer.{layer}.")(x)
        expected = nn.functional.normalize(x.mean(1), dim=1)

    # float32 sums in another order differ in the last digits.
    assert encoder.encode(["Red, seaside"]) == pytest.approx(expected.numpy(), abs=1e-5)


def test_padding_in_a_batch_changes_nothing(encoder: SentenceEncoder) -> None:
    batch = encoder.encode(["red", "green red seaside sea"])
    assert batch[0] == pytest.approx(encoder.encode(["red"])[0], abs=1e-5)


def test_vectors_have_length_one_and_unknown_texts_none(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(["red sea", "blue"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0], abs=1e-5)


def test_load_reads_a_checkpoint_back(tmp_path: Path, encoder: SentenceEncoder) -> None:
    save_file(random_weights(), tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    loaded = SentenceEncoder.load(tmp_path)
    assert np.array_equal(loaded.encode(["green sea"]), encoder.encode(["green sea"]))


def test_load_names_the_folder_that_holds_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"sentence encoder in .*expected model\.safetensors"):
        SentenceEncoder.load(tmp_path)


def test_load_refuses_weights_of_something_else(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(WeightsError, match=r"model\.safetensors is no BERT encoder"):
        SentenceEncoder.load(tmp_path)
