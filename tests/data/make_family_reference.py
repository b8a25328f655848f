# SPDX-License-Identifier: Apache-2.0
"""Write ``family_reference.npz``: tokens and vectors of the models of ``family_checkpoints.py``.

Made with tokenizers 0.23.3, transformers 5.24.0, sentence-transformers 6.2.0 and torch 2.13.0
(CPU), in float64. From the root of the repository::

    PYTHONPATH=tests python tests/data/make_family_reference.py

For each family:

- ``<family> tokens`` int32 and ``<family> lengths``: the ids of all texts, one after another. The
  texts of a reranker are pairs of ``QUERY`` and the text.
- ``embeddinggemma tokens of runs`` and ``lengths of runs``: the same of ``RUNS``.
- ``<family> vectors`` (9, n) float32: pooled, through sentence-transformers' Dense modules where
  there are any, and normalised; or ``<family> scores`` (9,).

transformers runs what it knows by the layout of the checkpoint. For the others the published
modelling code is written anew below: nomic-ai/nomic-bert-2048, jinaai/jina-bert-implementation,
jinaai/jina-bert-v2-qk-post-norm, jinaai/xlm-roberta-flash-implementation and chandar-lab/NeoBERT.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sentence_transformers.sentence_transformer.modules import Dense
from support.family_checkpoints import (
    BYTE_BPE,
    FAMILIES,
    JINA_TASKS,
    LORA_ALPHA,
    LORA_RANK,
    N_EXPERTS,
    N_HEADS,
    N_LAYERS,
    QUERY,
    RUNS,
    TEXTS,
    write_family_checkpoint,
)
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    T5EncoderModel,
)

# The format of Qwen3-Reranker's model card.
TEMPLATE = """<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. \
Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: Given a web search query, retrieve relevant passages that answer the query
<Query>: {query}
<Document>: {document}<|im_end|>
<|im_start|>assistant
<think>

</think>

"""

Weights = dict[str, torch.Tensor]


def linear(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(x: torch.Tensor, weights: Weights, name: str, epsilon: float) -> torch.Tensor:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return functional.layer_norm(x, weight.shape, weight, bias, epsilon)


def rms_norm(x: torch.Tensor, weights: Weights, name: str, epsilon: float) -> torch.Tensor:
    weight = weights[f"{name}.weight"]
    return functional.rms_norm(x, weight.shape, weight, epsilon)


def heads(x: torch.Tensor) -> torch.Tensor:
    return x.view(len(x), N_HEADS, -1).transpose(0, 1)


def angles(n_tokens: int, size: int, base: float) -> torch.Tensor:
    steps = base ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    return torch.outer(torch.arange(n_tokens, dtype=torch.float64), steps)


def rotate_halves(x: torch.Tensor, base: float) -> torch.Tensor:
    angle = angles(x.shape[1], x.shape[2], base)
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def rotate_neighbours(x: torch.Tensor, base: float) -> torch.Tensor:
    turn = torch.polar(torch.ones(()).double(), angles(x.shape[1], x.shape[2], base))
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * turn).flatten(2)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | float = 0.0
) -> torch.Tensor:
    scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5 + bias
    return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


def nomic(weights: Weights, ids: torch.Tensor) -> torch.Tensor:
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], weights, "emb_ln", 1e-12)
    for i in range(N_LAYERS):
        layer = f"encoder.layers.{i}."
        q, k, v = map(heads, linear(x, weights, f"{layer}attn.Wqkv").chunk(3, dim=-1))
        a = attention(rotate_halves(q, 1000.0), rotate_halves(k, 1000.0), v)
        x = norm(x + linear(a, weights, f"{layer}attn.out_proj"), weights, f"{layer}norm1", 1e-12)
        if f"{layer}mlp.experts.bias" in weights:
            y = mixture(x, weights, f"{layer}mlp.")
        elif f"{layer}mlp.fc1.weight" in weights:
            y = functional.gelu(linear(x, weights, f"{layer}mlp.fc1"))
            y = linear(y, weights, f"{layer}mlp.fc2")
        else:
            gate = functional.silu(linear(x, weights, f"{layer}mlp.fc12"))
            y = linear(linear(x, weights, f"{layer}mlp.fc11") * gate, weights, f"{layer}mlp.fc2")
        x = norm(x + y, weights, f"{layer}norm2", 1e-12)
    return x


def mixture(x: torch.Tensor, weights: Weights, mlp: str) -> torch.Tensor:
    """Compute the two best experts of each token; their weights are not made to sum to 1."""
    shares, chosen = linear(x, weights, f"{mlp}router.layer").softmax(-1).topk(2)
    up = weights[f"{mlp}experts.mlp.w1"].unflatten(0, (N_EXPERTS, -1))[chosen]
    down = weights[f"{mlp}experts.mlp.w2"].unflatten(0, (N_EXPERTS, -1))[chosen]
    inner = functional.gelu(torch.einsum("td,tkfd->tkf", x, up))
    y = torch.einsum("tk,tkf,tkfd->td", shares, inner, down)
    return y + weights[f"{mlp}experts.bias"]


def jina_v2(weights: Weights, ids: torch.Tensor) -> torch.Tensor:
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, weights, "embeddings.LayerNorm", 1e-12)
    position = torch.arange(len(ids), dtype=torch.float64)
    slopes = 2.0 ** (-8 / N_HEADS * torch.arange(1, N_HEADS + 1, dtype=torch.float64))
    alibi = -slopes[:, None, None] * (position[:, None] - position).abs()
    code = any("up_gated_layer" in name for name in weights)
    for i in range(N_LAYERS):
        layer = f"encoder.layer.{i}."
        self = f"{layer}attention.self."
        q, k, v = (linear(x, weights, f"{self}{name}") for name in ("query", "key", "value"))
        if code:
            q = norm(q, weights, f"{self}layer_norm_q", 1e-12)
            k = norm(k, weights, f"{self}layer_norm_k", 1e-12)
        a = attention(heads(q), heads(k), heads(v), alibi)
        a = linear(a, weights, f"{layer}attention.output.dense")
        a = norm(a + x, weights, f"{layer}attention.output.LayerNorm", 1e-12)
        if code:
            x = norm(x + a, weights, f"{layer}layer_norm_1", 1e-12)
            up, gate = linear(x, weights, f"{layer}mlp.up_gated_layer").chunk(2, dim=-1)
            y = linear(up * functional.gelu(gate), weights, f"{layer}mlp.down_layer")
            x = norm(x + y, weights, f"{layer}layer_norm_2", 1e-12)
        else:
            gate, up = linear(a, weights, f"{layer}mlp.gated_layers").chunk(2, dim=-1)
            y = linear(functional.gelu(gate) * up, weights, f"{layer}mlp.wo")
            x = norm(a + y, weights, f"{layer}mlp.layernorm", 1e-12)
    return x


def xlm_roberta_flash(weights: Weights, ids: torch.Tensor) -> torch.Tensor:
    weights = {name.removeprefix("roberta."): value for name, value in weights.items()}
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    rotary = "embeddings.position_embeddings.weight" not in weights
    if not rotary:
        x = x + weights["embeddings.position_embeddings.weight"][2 : 2 + len(ids)]
    x = norm(x, weights, "emb_ln", 1e-5)
    for i in range(N_LAYERS):
        layer = f"encoder.layers.{i}."
        q, k, v = map(heads, linear(x, weights, f"{layer}mixer.Wqkv").chunk(3, dim=-1))
        if rotary:
            q, k = rotate_halves(q, 20000.0), rotate_halves(k, 20000.0)
        a = linear(attention(q, k, v), weights, f"{layer}mixer.out_proj")
        x = norm(x + a, weights, f"{layer}norm1", 1e-5)
        y = functional.gelu(linear(x, weights, f"{layer}mlp.fc1"))
        x = norm(x + linear(y, weights, f"{layer}mlp.fc2"), weights, f"{layer}norm2", 1e-5)
    if rotary:
        return x
    return linear(linear(x[0], weights, "classifier.dense").tanh(), weights, "classifier.out_proj")


def adapted(weights: Weights, task: str | None) -> Weights:
    """Compute the weights as LoRAParametrization.lora_forward does for a task."""
    found = {}
    for name, value in weights.items():
        module, is_original, _ = name.partition(".parametrizations.weight.original")
        if is_original and task is not None:
            index = list(JINA_TASKS).index(task)
            adapter = f"{module}.parametrizations.weight.0.lora_"
            a, b = weights[f"{adapter}A"][index], weights[f"{adapter}B"][index]
            product = a @ b if module.endswith("_embeddings") else b @ a
            value = value + product * (LORA_ALPHA / LORA_RANK)
        found[f"{module}.weight" if is_original else name] = value
    return found


def neo_bert(weights: Weights, ids: torch.Tensor) -> torch.Tensor:
    weights = {name.removeprefix("model."): value for name, value in weights.items()}
    x = weights["encoder.weight"][ids]
    for i in range(N_LAYERS):
        layer = f"transformer_encoder.{i}."
        y = rms_norm(x, weights, f"{layer}attention_norm", 1e-5)
        y = linear(y, weights, f"{layer}qkv").view(len(ids), N_HEADS, -1)
        q, k, v = (part.transpose(0, 1) for part in y.chunk(3, dim=-1))
        y = attention(rotate_neighbours(q, 10000.0), rotate_neighbours(k, 10000.0), v)
        x = x + linear(y, weights, f"{layer}wo")
        y = rms_norm(x, weights, f"{layer}ffn_norm", 1e-5)
        gate, up = linear(y, weights, f"{layer}ffn.w12").chunk(2, dim=-1)
        x = x + linear(functional.silu(gate) * up, weights, f"{layer}ffn.w3")
    return rms_norm(x, weights, "layer_norm", 1e-5)


REWRITTEN: dict[str, Callable[[Weights, torch.Tensor], torch.Tensor]] = {
    "nomic": nomic,
    "nomic-moe": nomic,
    "jina-v2": jina_v2,
    "jina-v2-code": jina_v2,
    "jina-v3": xlm_roberta_flash,
    "jina-v3-task": xlm_roberta_flash,
    "jina-reranker-v2": xlm_roberta_flash,
    "neobert": neo_bert,
}


def model_of(name: str, folder: Path, weights: Weights) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what makes token vectors, or a score, of token ids."""
    if name in REWRITTEN:
        weights = adapted(weights, FAMILIES[name].task)
        return lambda ids: REWRITTEN[name](weights, ids)
    kind = AutoModelForSequenceClassification if FAMILIES[name].classifies else AutoModel
    if name == "qwen3-reranker":
        kind = AutoModelForCausalLM
    if name in ("sentence-t5", "t5-gated"):
        kind = T5EncoderModel
    # The published implementation of attention, not a fused one.
    model, report = kind.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    if name == "qwen3-reranker":
        answers = [BYTE_BPE.index("yes"), BYTE_BPE.index("no")]
        return lambda ids: model(input_ids=ids[None]).logits[0, -1, answers].softmax(-1)
    if FAMILIES[name].classifies:
        return lambda ids: model(input_ids=ids[None]).logits[0]
    if name == "llama-embed":
        # Every token sees all tokens.
        return lambda ids: model(
            input_ids=ids[None], attention_mask=torch.zeros(1, 1, len(ids), len(ids)).double()
        ).last_hidden_state[0]
    return lambda ids: model(input_ids=ids[None]).last_hidden_state[0]


def pool(rows: torch.Tensor, pooling: str, dense: list[Dense]) -> torch.Tensor:
    pooled = {"mean": rows.mean(0), "cls": rows[0], "lasttoken": rows[-1]}[pooling]
    for module in dense:
        pooled = module({"sentence_embedding": pooled})["sentence_embedding"]
    return pooled / pooled.norm()


def main() -> None:
    """Write the file beside this one."""
    arrays = {}
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as parent, torch.no_grad():
            folder = Path(parent) / name
            weights = {
                tensor: torch.from_numpy(values.astype(np.float64))
                for tensor, values in write_family_checkpoint(folder, name).items()
            }
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            model = model_of(name, folder, weights)
            dense = [
                Dense.load(str(folder), subfolder=f"{number}_Dense").double()
                for number in range(2, 2 + len(family.dense))
            ]
            ids, results = [], []
            for text in TEXTS:
                if name == "qwen3-reranker":
                    filled = TEMPLATE.format(query=QUERY, document=text)
                    encoded = tokenizer.encode(filled, add_special_tokens=False)
                else:
                    encoded = tokenizer.encode(*([QUERY] if family.classifies else []), text)
                ids.append(encoded.ids)
                result = model(torch.tensor(ids[-1]))
                results.append(
                    result[0] if family.classifies else pool(result, family.pooling, dense)
                )
            arrays[f"{name} tokens"] = np.concatenate(ids).astype(np.int32)
            arrays[f"{name} lengths"] = np.array([len(each) for each in ids], np.int32)
            kind = "scores" if family.classifies else "vectors"
            arrays[f"{name} {kind}"] = torch.stack(results).numpy().astype(np.float32)
            if name == "embeddinggemma":
                runs = [tokenizer.encode(text).ids for text in RUNS]
                arrays[f"{name} tokens of runs"] = np.concatenate(runs).astype(np.int32)
                arrays[f"{name} lengths of runs"] = np.array([len(each) for each in runs], np.int32)
    np.savez_compressed(Path(__file__).with_name("family_reference.npz"), **arrays)


if __name__ == "__main__":
    main()
