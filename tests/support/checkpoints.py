# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in Hugging Face's format: small ones with random weights, and a reranker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

N_EMBD, N_FF, N_LAYERS, N_HEADS, N_POSITIONS = 32, 64, 2, 4, 24

WORDPIECE = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"abcdefghijklmnopqrstuvwxyz0123456789.,!?",
    *(f"##{letter}" for letter in "abdehlorstw"),
    *("hello", "world", "caf", "the"),
]
UNIGRAM = [
    *(("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)),
    *(("\u2581hello", -1.5), ("\u2581world", -2.25), ("\u2581", -3.0)),
    *((letter, -4.0 - index) for index, letter in enumerate("abcdehlorw")),
    ("<mask>", 0.0),
]
# GPT-2's alphabet of bytes has all printable ASCII in it, and this for the space.
BPE = ["<s>", "<pad>", "</s>", "<unk>", *"abcdehlorw", "\u0120", "\u0120w", "he", "<mask>"]
MERGES = [["\u0120", "w"], ["h", "e"]]


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def change_json(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def added_tokens(tokens: list[str], special: Sequence[str]) -> list[dict[str, Any]]:
    switches = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": tokens.index(token), "content": token, "special": True, **switches}
        for token in special
    ]


def template(tokens: list[str], first: str | None, last: str | None, n_between: int) -> Any:
    a, b = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    begin, end = (
        [{"SpecialToken": {"id": token, "type_id": 0}}] if token else [] for token in (first, last)
    )
    return {
        "type": "TemplateProcessing",
        "single": [*begin, a, *end],
        "pair": [*begin, a, *end * n_between, b, *end],
        "special_tokens": {
            token: {"id": token, "ids": [tokens.index(token)], "tokens": [token]}
            for token in (first, last)
            if token
        },
    }


def write_tokenizer_json(folder: Path, **parts: Any) -> None:
    """Write a complete tokenizer.json, as the package tokenizers reads it."""
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "decoder"))
    write_json(folder / "tokenizer.json", {"version": "1.0", **empty, **parts})


def write_wordpiece(folder: Path, tokens: list[str] = WORDPIECE) -> None:
    write_tokenizer_json(
        folder,
        added_tokens=added_tokens(tokens, tokens[:5]),
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=template(tokens, "[CLS]", "[SEP]", 1),
        model={
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {t: i for i, t in enumerate(tokens)},
        },
    )
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True, "cls_token": "[CLS]"})


def write_unigram(
    folder: Path,
    vocabulary: list[tuple[str, float]] = UNIGRAM,
    *,
    special: Sequence[str] = ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    ends: tuple[str | None, str] = ("<s>", "</s>"),
) -> None:
    tokens = [token for token, _ in vocabulary]
    write_tokenizer_json(
        folder,
        added_tokens=added_tokens(tokens, special),
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {
                    "type": "Metaspace",
                    "replacement": "\u2581",
                    "prepend_scheme": "always",
                    "split": True,
                },
            ],
        },
        post_processor=template(tokens, *ends, 2),
        model={
            "type": "Unigram",
            "unk_id": tokens.index("<unk>"),
            "byte_fallback": False,
            "vocab": vocabulary,
        },
    )


def bpe_model(tokens: list[str], merges: list[list[str]], **changes: Any) -> dict[str, Any]:
    absent = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    switches = dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    parts = {"vocab": vocabulary, "merges": merges, **changes}
    return {"type": "BPE", **dict.fromkeys(absent), **switches, **parts}


def byte_level(**changes: bool) -> dict[str, Any]:
    switches = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"type": "ByteLevel", **switches, **changes}


def write_bpe(folder: Path) -> None:
    write_tokenizer_json(
        folder,
        added_tokens=added_tokens(BPE, [*BPE[:4], "<mask>"]),
        pre_tokenizer=byte_level(),
        post_processor={
            "type": "RobertaProcessing",
            "sep": ["</s>", 2],
            "cls": ["<s>", 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        },
        model=bpe_model(BPE, MERGES),
    )


TOKENIZERS = {
    "WordPiece": (write_wordpiece, len(WORDPIECE)),
    "Unigram": (write_unigram, len(UNIGRAM)),
    "BPE": (write_bpe, len(BPE)),
}


def _shapes(
    architecture: str, n_tokens: int, n_labels: int, width: int, n_layers: int
) -> dict[str, tuple[int, ...]]:
    """The checkpoint's tensors: the names transformers gives them."""
    distil = architecture.startswith("Distil")
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (n_tokens, width),
        "embeddings.position_embeddings.weight": (N_POSITIONS, width),
    }
    norms, linear = ["embeddings.LayerNorm"], {}
    for index in range(n_layers):
        if distil:
            layer = f"transformer.layer.{index}"
            norms += [f"{layer}.sa_layer_norm", f"{layer}.output_layer_norm"]
            for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
                linear[f"{layer}.attention.{name}"] = (width, width)
            linear[f"{layer}.ffn.lin1"] = (2 * width, width)
            linear[f"{layer}.ffn.lin2"] = (width, 2 * width)
        else:
            layer = f"encoder.layer.{index}"
            norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                linear[f"{layer}.attention.{name}"] = (width, width)
            linear[f"{layer}.intermediate.dense"] = (2 * width, width)
            linear[f"{layer}.output.dense"] = (width, 2 * width)
    if not distil:
        found["embeddings.token_type_embeddings.weight"] = (2, width)
    if architecture.endswith("Classification"):
        roberta = "Roberta" in architecture
        linear["classifier.dense" if roberta else "pooler.dense"] = (width, width)
        linear["classifier.out_proj" if roberta else "classifier"] = (n_labels, width)
    for name in norms:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)
    for name, shape in linear.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]
    return found


def write_checkpoint(
    folder: Path,
    architecture: str = "BertModel",
    tokenizer: str = "WordPiece",
    n_labels: int = 1,
    *,
    width: int = N_EMBD,
    n_layers: int = N_LAYERS,
    **config: Any,
) -> dict[str, np.ndarray]:
    """Write a complete checkpoint with random weights, and return them.

    Parameters
    ----------
    folder : Path
        The directory to make.
    architecture : str
        What config.json names, of the BERT family.
    tokenizer : str
        A key of :data:`TOKENIZERS`.
    n_labels : int
        Outputs of a classification head, where the architecture has one.
    width : int
        Size of the hidden states; the feed-forward layers have twice as much.
    n_layers : int
        How many.
    **config
        Keys of config.json to add or replace.

    Returns
    -------
    dict of str to ndarray
    """
    folder.mkdir()
    write_tokenizer, n_tokens = TOKENIZERS[tokenizer]
    write_tokenizer(folder)
    sizes: dict[str, Any] = {
        "num_hidden_layers": n_layers,
        "hidden_size": width,
        "num_attention_heads": N_HEADS,
        "intermediate_size": 2 * width,
        "hidden_act": "gelu",
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-5,
    }
    if architecture.startswith("Distil"):
        sizes = {"n_layers": n_layers, "dim": width, "n_heads": N_HEADS, "hidden_dim": 2 * width}
    if architecture.endswith("Classification"):
        sizes["id2label"] = {str(index): f"label {index}" for index in range(n_labels)}
    write_json(
        folder / "config.json",
        {
            "architectures": [architecture],
            "vocab_size": n_tokens,
            "max_position_embeddings": N_POSITIONS,
            **sizes,
            **config,
        },
    )
    random = np.random.default_rng(7)
    weights = {
        name: random.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in _shapes(architecture, n_tokens, n_labels, width, n_layers).items()
    }
    save_file(weights, folder / "model.safetensors")
    return weights


def save_bfloat16(weights: dict[str, np.ndarray], path: Path) -> None:
    """Write what numpy has no type for: a header of JSON, then the upper halves of floats."""
    header, data = {}, b""
    for name, array in weights.items():
        begin = len(data)
        data += (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [begin, len(data)]
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def shard(checkpoint: Path, weights: dict[str, np.ndarray]) -> None:
    """Replace model.safetensors by two files and their index."""
    (checkpoint / "model.safetensors").unlink()
    names = sorted(weights)
    half = len(names) // 2
    weight_map = {}
    for number, part in enumerate((names[:half], names[half:]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, checkpoint / file)
        weight_map.update(dict.fromkeys(part, file))
    write_json(checkpoint / "model.safetensors.index.json", {"weight_map": weight_map})


def write_reranker_checkpoint(encoder: Path, target: Path) -> Path:
    """Write a BertForSequenceClassification checkpoint with one label.

    The encoder is the real MiniLM, as no reranker is at hand that is small enough; the head is made
    of seeded random numbers. The scores mean nothing: tests see that they are computed right. The
    maker of the reference (``data/make_reranker_reference.py``) writes the same checkpoint.

    The head is ``classifier(tanh(pooler(h)))`` of the last hidden state ``h`` of [CLS].

    Parameters
    ----------
    encoder : Path
        Checkpoint directory of sentence-transformers/all-MiniLM-L6-v2.
    target : Path
        The directory to write, made if missing.

    Returns
    -------
    Path
        `target`.
    """
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    n_dims = config["hidden_size"]
    generator = np.random.Generator(np.random.PCG64(20261122))

    def uniform(bound: float, *shape: int) -> np.ndarray:
        return (bound * (2 * generator.random(shape) - 1)).astype(np.float32)

    tensors = {
        f"bert.{name}": tensor
        for name, tensor in load_file(encoder / "model.safetensors").items()
        if not name.startswith("pooler.")
    }
    # The bounds keep tanh off its flat ends and spread the scores over several units.
    tensors["bert.pooler.dense.weight"] = uniform(0.15, n_dims, n_dims)
    tensors["bert.pooler.dense.bias"] = uniform(0.15, n_dims)
    tensors["classifier.weight"] = uniform(0.5, 1, n_dims)
    tensors["classifier.bias"] = uniform(0.5, 1)

    target.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(encoder / name, target / name)
    return target


def write_pooling(checkpoint: Path, settings: dict[str, Any], *more: str) -> None:
    kinds = ["Transformer", "Pooling", "Normalize", *more]
    paths = ["", "1_Pooling", "2_Normalize", *(f"3_{kind}" for kind in more)]
    write_json(
        checkpoint / "modules.json",
        [
            {"idx": index, "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(zip(paths, kinds, strict=True))
        ],
    )
    (checkpoint / "1_Pooling").mkdir()
    write_json(checkpoint / "1_Pooling" / "config.json", settings)
