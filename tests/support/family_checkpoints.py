# SPDX-License-Identifier: Apache-2.0
"""Small checkpoints of other families than BERT's, in their published layouts.

The maker of the reference (``data/make_family_reference.py``) and the tests write the same ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from support.checkpoints import (
    UNIGRAM,
    WORDPIECE,
    added_tokens,
    bpe_model,
    byte_level,
    template,
    write_json,
    write_tokenizer_json,
    write_unigram,
    write_wordpiece,
)

WIDTH, N_FF, N_LAYERS, N_HEADS = 32, 48, 4, 4
N_EXPERTS = 4
LORA_RANK, LORA_ALPHA = 4, 6.0
JINA_TASKS = {"separation": "", "retrieval.query": "hello the ", "text-matching": ""}
QUERY = "hello world"
TEXTS = [
    "hello world",
    "The cafe.",
    "a",
    "abc 123, hello? world!",
    "b a c h e l o r  and the rest of the words 2",
    "hello " * 40,
    "the world or the other world " * 12,
    " ".join("abcdehlorw" * 20),
    "caf\u00e9 \u4e2d\u6587 \U0001f680",
]
# Where Gemma's tokenizer has tokens for several spaces or newlines.
RUNS = [
    "a  b",
    "  the",
    "hello   world    the",
    "a\nb\n\nc\n\n\nd",
    "hello \n\n  world  ",
    "<table> hello <table>",
    "a\tb\t\tc",
]
_LETTERS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# GPT-2's alphabet for all bytes: those that are printable stand for themselves.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = [chr(byte) for byte in _PRINTABLE] + [chr(256 + i) for i in range(256 - len(_PRINTABLE))]
_MERGES = [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"], ["\u0120", "w"], ["\u0120", "t"]]
_MERGES += [["y", "e"], ["ye", "s"], ["n", "o"]]
BYTE_BPE = [
    *BYTES,
    *("".join(merge) for merge in _MERGES),
    *("<|begin|>", "<|end|>", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"),
]


def _byte_bpe(
    first: str | None, last: str | None, *, nfc: bool, digits: str | None, **model: Any
) -> Callable[[Path], None]:
    split = {
        "type": "Split",
        "pattern": {"Regex": "" if digits is None else _LETTERS % digits},
        "behavior": "Isolated",
        "invert": False,
    }
    sequence = {"type": "Sequence", "pretokenizers": [split, byte_level(use_regex=False)]}

    def write(folder: Path) -> None:
        write_tokenizer_json(
            folder,
            added_tokens=added_tokens(BYTE_BPE, BYTE_BPE[-7:]),
            normalizer={"type": "NFC"} if nfc else None,
            pre_tokenizer=byte_level() if digits is None else sequence,
            post_processor=template(BYTE_BPE, first, last, 1),
            model=bpe_model(BYTE_BPE[:-7], _MERGES, **model),
        )
        named = {f"{name.lower()}_token": f"[{name}]" for name in ("CLS", "SEP", "PAD", "UNK")}
        ends = {"bos_token": first, "eos_token": last}
        write_json(
            folder / "tokenizer_config.json",
            {"tokenizer_class": "PreTrainedTokenizerFast", **named, **ends},
        )

    return write


SENTENCEPIECE = [
    *("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))),
    *("he", "or", "ll", "\u2581w", "\u2581t", "wor", "ld", "\u2581wor", "\u2581the", "hello"),
    *("\u2581", *"abcdefghijklmnopqrstuvwxyz0123456789.,!?T"),
]


# The ids of <s> and </s> are not RoBERTa's; what is at those is not used.
CAMEMBERT = [
    *(("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0)),
    *(("<unk>NOTUSED", -100.0), ("<s>", -100.0), ("</s>", -100.0)),
    *UNIGRAM[4:],
]


def _sentencepiece(folder: Path) -> None:
    """Llama 2's and Mistral's tokenizer: SentencePiece's BPE, as transformers converts it."""
    merges = _merges_of(SENTENCEPIECE[3 + 256 :])
    space = "\u2581"
    write_tokenizer_json(
        folder,
        added_tokens=added_tokens(SENTENCEPIECE, SENTENCEPIECE[:3]),
        normalizer={
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": space},
                {"type": "Replace", "pattern": {"String": " "}, "content": space},
            ],
        },
        pre_tokenizer=None,
        post_processor=template(SENTENCEPIECE, "<s>", "</s>", 1),
        model=bpe_model(
            SENTENCEPIECE, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
        ),
    )
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"})


GEMMA = [
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\n", "\n\n", "\u2581\u2581"),
    *(
        "\u2581\u2581\u2581",
        "<table>",
        *("\t" if byte == 9 else f"<0x{byte:02X}>" for byte in range(256)),
    ),
    *("he", "or", "ll", "\u2581w", "\u2581t", "wor", "ld", "\u2581wor", "\u2581the", "hello"),
    *("\u2581", *"abcdefghijklmnopqrstuvwxyz0123456789.,!?T<>"),
]


def _merges_of(pieces: list[str]) -> list[list[str]]:
    return [
        [piece[:end], piece[end:]]
        for piece in pieces
        for end in range(1, len(piece))
        if piece[:end] in pieces and piece[end:] in pieces
    ]


def _gemma(folder: Path) -> None:
    """Gemma's tokenizer: runs of spaces and newlines are added tokens, with merges of their own."""
    pieces = [piece for piece in GEMMA[10:] if piece[:3] != "<0x"]
    runs = _merges_of([*GEMMA[5:9], *pieces])[: -len(_merges_of(pieces))]
    # In the order that transformers' converter gives them; some come after a token's.
    runs.sort(key=lambda merge: (len(merge[0]), len(merge[1]), merge[0]), reverse=True)
    *runs, newlines = runs
    space = "\u2581"
    tokens = added_tokens(GEMMA, GEMMA[:10])
    for token in tokens[5:]:
        token["special"] = False
    tokens.append({**tokens[0], "id": len(GEMMA), "content": "<image_soft_token>"})
    write_tokenizer_json(
        folder,
        added_tokens=tokens,
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": space},
        pre_tokenizer={
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        post_processor=template(GEMMA, "<bos>", "<eos>", 1),
        model=bpe_model(
            GEMMA,
            [*runs, *_merges_of(pieces), newlines],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        ),
    )
    names = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "unk", "pad", "mask")}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "GemmaTokenizer", "add_eos_token": True, **names},
    )


# T5's sentinels follow the vocabulary.
T5 = [
    *(("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)),
    *(("\u2581hello", -1.5), ("\u2581world", -2.25), ("\u2581the", -2.5)),
    *((letter, -4.0 - index) for index, letter in enumerate("abcdehlorwT.,")),
    *((f"<extra_id_{index}>", 0.0) for index in (1, 0)),
]


def _t5(folder: Path) -> None:
    tokens = [token for token, _ in T5]
    write_unigram(folder, T5, special=[*tokens[:3], *tokens[-2:]], ends=(None, "</s>"))
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", **names})


def _plain(tokenizer: Callable[[Path], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        tokenizer(folder)
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})

    return write


Shapes = dict[str, tuple[int, ...]]


def _norms(*names: str, bias: bool = True, width: int = WIDTH) -> Shapes:
    kinds = ("weight", "bias") if bias else ("weight",)
    return {f"{name}.{kind}": (width,) for name in names for kind in kinds}


def _linear(bias: bool = True, **shapes: tuple[int, int]) -> Shapes:
    found: Shapes = {f"{name}.weight": shape for name, shape in shapes.items()}
    if bias:
        found |= {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    return found


def _layers(prefix: str, layer: Shapes) -> Shapes:
    return {f"{prefix}.{i}.{name}": shape for i in range(N_LAYERS) for name, shape in layer.items()}


def bert(n_tokens: int, n_types: int = 1) -> Shapes:
    square = (WIDTH, WIDTH)
    names = ("self.query", "self.key", "self.value", "output.dense")
    layer = _linear(**{f"attention.{name}": square for name in names})
    layer |= _linear(**{"intermediate.dense": (N_FF, WIDTH), "output.dense": (WIDTH, N_FF)})
    layer |= _norms("attention.output.LayerNorm", "output.LayerNorm")
    return {
        "embeddings.word_embeddings.weight": (n_tokens, WIDTH),
        "embeddings.position_embeddings.weight": (514, WIDTH),
        "embeddings.token_type_embeddings.weight": (n_types, WIDTH),
        **_norms("embeddings.LayerNorm"),
        **_layers("encoder.layer", layer),
        **_linear(**{"pooler.dense": square}),
    }


def nomic_bert() -> Shapes:
    square, up, down = (WIDTH, WIDTH), (N_FF, WIDTH), (WIDTH, N_FF)
    fused = {"attn.Wqkv": (3 * WIDTH, WIDTH), "attn.out_proj": square}
    gated = {"mlp.fc11": up, "mlp.fc12": up, "mlp.fc2": down}
    layer = _linear(False, **fused, **gated) | _norms("norm1", "norm2")
    return {
        "embeddings.word_embeddings.weight": (len(WORDPIECE), WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        **_norms("emb_ln"),
        **_layers("encoder.layers", layer),
    }


def nomic_bert_moe() -> Shapes:
    layer = _linear(**{"attn.Wqkv": (3 * WIDTH, WIDTH), "attn.out_proj": (WIDTH, WIDTH)})
    layer |= _norms("norm1", "norm2")
    found = {
        "embeddings.word_embeddings.weight": (len(UNIGRAM) + 3, WIDTH),
        "embeddings.token_type_embeddings.weight": (1, WIDTH),
        **_norms("emb_ln"),
        **_layers("encoder.layers", layer),
    }
    for i in range(N_LAYERS):
        mlp = f"encoder.layers.{i}.mlp."
        if i % 2:
            found |= _linear(False, **{f"{mlp}router.layer": (N_EXPERTS, WIDTH)})
            found |= {f"{mlp}experts.mlp.w{j}": (N_EXPERTS * N_FF, WIDTH) for j in (1, 2)}
            found[f"{mlp}experts.bias"] = (WIDTH,)
        else:
            found |= _linear(**{f"{mlp}fc1": (N_FF, WIDTH), f"{mlp}fc2": (WIDTH, N_FF)})
    return found


def jina_bert_v2(up_gated: bool) -> Shapes:
    square, up, down = (WIDTH, WIDTH), (2 * N_FF, WIDTH), (WIDTH, N_FF)
    names = ("self.query", "self.key", "self.value", "output.dense")
    layer = _linear(**{f"attention.{name}": square for name in names})
    layer |= _norms("attention.output.LayerNorm")
    if up_gated:
        layer |= _linear(False, **{"mlp.up_gated_layer": up})
        layer |= _linear(**{"mlp.down_layer": down})
        layer |= _norms("attention.self.layer_norm_q", "attention.self.layer_norm_k")
        layer |= _norms("layer_norm_1", "layer_norm_2")
    else:
        layer |= _linear(False, **{"mlp.gated_layers": up}) | _linear(**{"mlp.wo": down})
        layer |= _norms("mlp.layernorm")
    return {
        "embeddings.word_embeddings.weight": (len(WORDPIECE), WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        **_norms("embeddings.LayerNorm"),
        **_layers("encoder.layer", layer),
    }


def xlm_roberta_flash(rotary: bool) -> Shapes:
    layer = _linear(
        **{
            "mixer.Wqkv": (3 * WIDTH, WIDTH),
            "mixer.out_proj": (WIDTH, WIDTH),
            "mlp.fc1": (N_FF, WIDTH),
            "mlp.fc2": (WIDTH, N_FF),
        }
    )
    found = {
        "embeddings.word_embeddings.weight": (len(UNIGRAM), WIDTH),
        "embeddings.token_type_embeddings.weight": (1, WIDTH),
        **_norms("emb_ln"),
        **_layers("encoder.layers", layer | _norms("norm1", "norm2")),
    }
    if rotary:
        found |= _linear(**{"pooler.dense": (WIDTH, WIDTH)})
        found = _with_adapters(found)
    else:
        found["embeddings.position_embeddings.weight"] = (514, WIDTH)
        found |= _linear(**{"classifier.dense": (WIDTH, WIDTH), "classifier.out_proj": (1, WIDTH)})
    return {f"roberta.{name}" if "class" not in name else name: s for name, s in found.items()}


def _with_adapters(shapes: Shapes) -> Shapes:
    """Add the adapters of all tasks to all matrices, as jina-embeddings-v3 names them."""
    n, rank = len(JINA_TASKS), LORA_RANK
    found: Shapes = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if len(shape) == 1:
            found[name] = shape
            continue
        first, second = (n, rank, shape[1]), (n, shape[0], rank)
        if module.endswith("_embeddings"):
            first, second = second, first
        found[f"{module}.parametrizations.weight.original"] = shape
        found[f"{module}.parametrizations.weight.0.lora_A"] = first
        found[f"{module}.parametrizations.weight.0.lora_B"] = second
    return found


def modern_bert(classifies: bool) -> Shapes:
    layer = _linear(
        False,
        **{
            "attn.Wqkv": (3 * WIDTH, WIDTH),
            "attn.Wo": (WIDTH, WIDTH),
            "mlp.Wi": (2 * N_FF, WIDTH),
            "mlp.Wo": (WIDTH, N_FF),
        },
    )
    found = {
        "embeddings.tok_embeddings.weight": (len(BYTE_BPE), WIDTH),
        **_norms("embeddings.norm", "final_norm", bias=False),
        **_layers("layers", layer | _norms("attn_norm", "mlp_norm", bias=False)),
    }
    del found["layers.0.attn_norm.weight"]
    if not classifies:
        return found
    head = _linear(False, **{"head.dense": (WIDTH, WIDTH)}) | _norms("head.norm", bias=False)
    body = {f"model.{name}": shape for name, shape in found.items()}
    return body | head | _linear(classifier=(1, WIDTH))


def neo_bert() -> Shapes:
    n_ff = 32  # two thirds of N_FF
    layer = _linear(
        False,
        **{
            "qkv": (3 * WIDTH, WIDTH),
            "wo": (WIDTH, WIDTH),
            "ffn.w12": (2 * n_ff, WIDTH),
            "ffn.w3": (WIDTH, n_ff),
        },
    )
    found = {
        "encoder.weight": (len(WORDPIECE), WIDTH),
        "layer_norm.weight": (WIDTH,),
        **_layers("transformer_encoder", layer | _norms("attention_norm", "ffn_norm", bias=False)),
    }
    return {f"model.{name}": shape for name, shape in found.items()}


def llama(
    n_kv_heads: int,
    n_head: int,
    *,
    n_tokens: int = len(BYTE_BPE),
    normalised: bool = False,
    prefix: str = "",
) -> Shapes:
    q, kv = N_HEADS * n_head, n_kv_heads * n_head
    layer = _linear(
        False,
        **{
            "self_attn.q_proj": (q, WIDTH),
            "self_attn.k_proj": (kv, WIDTH),
            "self_attn.v_proj": (kv, WIDTH),
            "self_attn.o_proj": (WIDTH, q),
            "mlp.gate_proj": (N_FF, WIDTH),
            "mlp.up_proj": (N_FF, WIDTH),
            "mlp.down_proj": (WIDTH, N_FF),
        },
    )
    layer |= _norms("input_layernorm", "post_attention_layernorm", bias=False)
    if normalised:
        layer |= _norms("self_attn.q_norm", "self_attn.k_norm", bias=False, width=n_head)
    found = {
        "embed_tokens.weight": (n_tokens, WIDTH),
        "norm.weight": (WIDTH,),
        **_layers("layers", layer),
    }
    return {f"{prefix}{name}": shape for name, shape in found.items()}


def gemma(n_kv_heads: int, n_head: int) -> Shapes:
    found = llama(n_kv_heads, n_head, n_tokens=len(GEMMA), normalised=True)
    names = ("pre_feedforward_layernorm", "post_feedforward_layernorm")
    return found | _layers("layers", _norms(*names, bias=False))


def t5(n_head: int, *, gated: bool) -> Shapes:
    attention, into = "layer.0.SelfAttention", (N_HEADS * n_head, WIDTH)
    layer = _linear(
        False, **{f"{attention}.{name}": into for name in "qkv"}, **{f"{attention}.o": into[::-1]}
    )
    for name in ("wi_0", "wi_1") if gated else ("wi",):
        layer |= _linear(False, **{f"layer.1.DenseReluDense.{name}": (N_FF, WIDTH)})
    layer |= _linear(False, **{"layer.1.DenseReluDense.wo": (WIDTH, N_FF)})
    layer |= _norms("layer.0.layer_norm", "layer.1.layer_norm", bias=False)
    bias = f"encoder.block.0.{attention}.relative_attention_bias.weight"
    return {
        "shared.weight": (len(T5), WIDTH),
        **_layers("encoder.block", layer),
        bias: (32, N_HEADS),
        "encoder.final_layer_norm.weight": (WIDTH,),
    }


@dataclasses.dataclass(frozen=True)
class Dense:
    """A module of sentence-transformers after the pooling."""

    n_in: int
    n_out: int
    bias: bool
    activation: str  # a class of torch.nn.modules

    def write(self, folder: Path) -> None:
        folder.mkdir()
        write_json(
            folder / "config.json",
            {
                "in_features": self.n_in,
                "out_features": self.n_out,
                "bias": self.bias,
                "activation_function": f"torch.nn.modules.{self.activation}",
            },
        )
        random = np.random.default_rng(self.n_out)
        shapes = _linear(self.bias, linear=(self.n_out, self.n_in))
        scale = np.float32(self.n_in**-0.5)
        weights = {
            name: scale * random.standard_normal(shape, np.float32)
            for name, shape in shapes.items()
        }
        save_file(weights, folder / "model.safetensors")


_BERT_SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "intermediate_size": N_FF,
}
_NOMIC = {
    "n_embd": WIDTH,
    "n_layer": N_LAYERS,
    "n_head": N_HEADS,
    "n_inner": N_FF,
    "n_positions": 8192,
    "max_trained_positions": 2048,
    "layer_norm_epsilon": 1e-12,
    "activation_function": "swiglu",
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "type_vocab_size": 2,
}
_JINA = {
    **_BERT_SIZES,
    "position_embedding_type": "alibi",
    "feed_forward_type": "geglu",
    "hidden_act": "gelu",
    "max_position_embeddings": 8192,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
_FLASH = {
    **_BERT_SIZES,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "max_position_embeddings": 514,
}
_MODERN = {
    **_BERT_SIZES,
    "model_type": "modernbert",
    "hidden_activation": "gelu",
    "norm_eps": 1e-5,
    "local_attention": 16,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
_LLAMA = {
    **_BERT_SIZES,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 96,
}
_YARN = {"rope_type": "yarn", "factor": 4.0}


@dataclasses.dataclass(frozen=True)
class FamilyCheckpoint:
    """A checkpoint to write: its config.json, its tokenizer and its tensors' shapes."""

    config: dict[str, Any]
    write_tokenizer: Callable[[Path], None]
    shapes: Shapes
    pooling: str
    task: str | None = None
    dense: tuple[Dense, ...] = ()

    @property
    def classifies(self) -> bool:
        return self.pooling == "rank"


def _family(
    name: str,
    write_tokenizer: Callable[[Path], None],
    shapes: Shapes,
    pooling: str,
    dense: tuple[Dense, ...] = (),
    /,
    **config: Any,
) -> FamilyCheckpoint:
    config = {"architectures": [name], **config}
    return FamilyCheckpoint(config, write_tokenizer, shapes, pooling, dense=dense)


_TANH, _IDENTITY = "activation.Tanh", "linear.Identity"
_BERT = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 514,
    "type_vocab_size": 2,
    **_BERT_SIZES,
}
_GEMMA = {
    **_BERT_SIZES,
    "model_type": "gemma3_text",
    "use_bidirectional_attention": True,
    "hidden_activation": "gelu_pytorch_tanh",
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 512,
    "sliding_window": 16,
    "layer_types": [
        "sliding_attention",
        "sliding_attention",
        "full_attention",
        "sliding_attention",
    ],
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_T5 = {
    "model_type": "t5",
    "d_model": WIDTH,
    "d_ff": N_FF,
    "num_layers": N_LAYERS,
    "num_heads": N_HEADS,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
_LABEL = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
_UNIGRAM = _plain(write_unigram)
_WORDPIECE = _plain(write_wordpiece)
_MODERN_BPE = _byte_bpe("[CLS]", "[SEP]", nfc=True, digits=None)
_QWEN_BPE = _byte_bpe(None, "<|end|>", nfc=True, digits="")
_LLAMA_BPE = _byte_bpe("<|begin|>", "<|end|>", nfc=False, digits="{1,3}", ignore_merges=True)
_JINA_V3 = _family(
    "XLMRobertaModel",
    _UNIGRAM,
    xlm_roberta_flash(True),
    "mean",
    position_embedding_type="rotary",
    rotary_emb_base=20000.0,
    lora_adaptations=list(JINA_TASKS),
    task_instructions=JINA_TASKS,
    lora_rank=LORA_RANK,
    lora_alpha=LORA_ALPHA,
    **_FLASH,
)


def _llama(**config: Any) -> FamilyCheckpoint:
    return _family(
        "LlamaModel",
        _LLAMA_BPE,
        llama(2, WIDTH // N_HEADS),
        "lasttoken",
        model_type="llama",
        rope_theta=10000.0,
        **_LLAMA,
        **config,
    )


def _eurobert(**config: Any) -> FamilyCheckpoint:
    return _family(
        "EuroBertModel",
        _LLAMA_BPE,
        llama(2, WIDTH // N_HEADS),
        "mean",
        model_type="eurobert",
        rope_theta=250000.0,
        **_LLAMA,
        **config,
    )


def _qwen3(**config: Any) -> FamilyCheckpoint:
    return _family(
        "Qwen3ForCausalLM",
        _QWEN_BPE,
        llama(2, 16, normalised=True, prefix="model."),
        "lasttoken",
        model_type="qwen3",
        head_dim=16,
        rope_theta=1000000.0,
        tie_word_embeddings=True,
        **_LLAMA,
        **config,
    )


FAMILIES = {
    "camembert": _family(
        "CamembertModel",
        _plain(lambda folder: write_unigram(folder, CAMEMBERT)),
        bert(len(CAMEMBERT)),
        "mean",
        model_type="camembert",
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=5,
        eos_token_id=6,
        **_BERT_SIZES,
    ),
    "labse": _family(
        "BertModel",
        _WORDPIECE,
        bert(len(WORDPIECE), 2),
        "cls",
        (Dense(WIDTH, WIDTH, True, _TANH),),
        **_BERT,
    ),
    "leaf": _family(
        "BertModel",
        _WORDPIECE,
        bert(len(WORDPIECE), 2),
        "mean",
        (Dense(WIDTH, 48, True, _IDENTITY),),
        **_BERT,
    ),
    "nomic": _family("NomicBertModel", _WORDPIECE, nomic_bert(), "mean", **_NOMIC),
    "nomic-moe": _family(
        "NomicBertModel",
        _UNIGRAM,
        nomic_bert_moe(),
        "mean",
        **{
            **_NOMIC,
            "activation_function": "gelu",
            "n_positions": 2048,
            "qkv_proj_bias": True,
            "mlp_fc1_bias": True,
            "mlp_fc2_bias": True,
            "type_vocab_size": 1,
            "num_experts": N_EXPERTS,
            "moe_every_n_layers": 2,
            "moe_top_k": 2,
        },
    ),
    "jina-v2": _family("JinaBertForMaskedLM", _WORDPIECE, jina_bert_v2(False), "mean", **_JINA),
    "jina-v2-code": _family("JinaBertForMaskedLM", _WORDPIECE, jina_bert_v2(True), "mean", **_JINA),
    "jina-v3": _JINA_V3,
    "jina-v3-task": dataclasses.replace(_JINA_V3, task="retrieval.query"),
    "jina-reranker-v2": _family(
        "XLMRobertaForSequenceClassification",
        _UNIGRAM,
        xlm_roberta_flash(False),
        "rank",
        position_embedding_type="absolute",
        **_FLASH,
        **_LABEL,
    ),
    "modernbert": _family("ModernBertModel", _MODERN_BPE, modern_bert(False), "cls", **_MODERN),
    "modernbert-reranker": _family(
        "ModernBertForSequenceClassification",
        _MODERN_BPE,
        modern_bert(True),
        "rank",
        classifier_pooling="mean",
        **_MODERN,
        **_LABEL,
    ),
    "eurobert": _eurobert(),
    "eurobert-linear": _eurobert(rope_scaling={"type": "linear", "factor": 3.0}),
    "neobert": _family(
        "NeoBERTLMHead",
        _WORDPIECE,
        neo_bert(),
        "mean",
        norm_eps=1e-5,
        max_length=4096,
        **_BERT_SIZES,
    ),
    "qwen3": _qwen3(),
    "qwen3-yarn": _qwen3(rope_scaling={**_YARN, "original_max_position_embeddings": 128}),
    "qwen3-reranker": _family(
        "Qwen3ForCausalLM",
        _QWEN_BPE,
        llama(2, 16, normalised=True, prefix="model."),
        "rank",
        model_type="qwen3",
        head_dim=16,
        rope_theta=1000000.0,
        tie_word_embeddings=True,
        **{**_LLAMA, "max_position_embeddings": 2048},
    ),
    "llama": _llama(),
    "llama-3.1": _llama(rope_scaling=_LLAMA3),
    "llama-embed": _family(
        "LlamaBidirectionalModel",
        _LLAMA_BPE,
        llama(2, WIDTH // N_HEADS),
        "mean",
        model_type="llama",
        pooling="avg",
        rope_theta=10000.0,
        rope_scaling=_LLAMA3,
        **_LLAMA,
    ),
    "llama-yarn": _llama(
        rope_scaling={**_YARN, "attention_factor": 0.8}, original_max_position_embeddings=64
    ),
    "mistral": _family(
        "MistralModel",
        _sentencepiece,
        llama(2, WIDTH // N_HEADS, n_tokens=len(SENTENCEPIECE)),
        "lasttoken",
        model_type="mistral",
        rope_theta=10000.0,
        sliding_window=None,
        **_LLAMA,
    ),
    "embeddinggemma": _family(
        "Gemma3TextModel",
        _gemma,
        gemma(1, 16),
        "mean",
        (Dense(WIDTH, 96, False, _IDENTITY), Dense(96, WIDTH, False, _IDENTITY)),
        **_GEMMA,
    ),
    "sentence-t5": _family(
        "T5EncoderModel",
        _t5,
        t5(8, gated=False),
        "mean",
        (Dense(WIDTH, 24, False, _IDENTITY),),
        feed_forward_proj="relu",
        d_kv=8,
        **_T5,
    ),
    "t5-gated": _family(
        "T5EncoderModel",
        _t5,
        t5(16, gated=True),
        "mean",
        feed_forward_proj="gated-gelu",
        d_kv=16,
        **_T5,
    ),
}


def write_family_checkpoint(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Write the checkpoint of a key of :data:`FAMILIES`, and return its weights."""
    family = FAMILIES[name]
    folder.mkdir()
    family.write_tokenizer(folder)
    embeddings = next(
        shape
        for name, shape in family.shapes.items()
        if "embed" in name or "shared" in name or name.endswith("encoder.weight")
    )
    config = {"vocab_size": embeddings[0], **family.config}
    write_json(folder / "config.json", config)
    if name == "qwen3-reranker":
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Qwen3-Reranker-Tiny\n")
    if not family.classifies:
        modules = {"": "Transformer", "1_Pooling": "Pooling"}
        for number, dense in enumerate(family.dense, start=2):
            modules[f"{number}_Dense"] = "Dense"
            dense.write(folder / f"{number}_Dense")
        write_json(
            folder / "modules.json",
            [
                {"path": path, "type": f"sentence_transformers.models.{kind}"}
                for path, kind in modules.items()
            ],
        )
        (folder / "1_Pooling").mkdir()
        write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": family.pooling})
    random = np.random.default_rng(11)
    weights = {}
    for name, shape in family.shapes.items():
        values = random.normal(0, 1, shape)
        if len(shape) == 1:
            norm = name.endswith("weight")
            values = 0.1 * values + norm
        else:
            values *= 0.5 if "embed" in name else shape[-1] ** -0.5
        weights[name] = values.astype(np.float32)
    save_file(weights, folder / "model.safetensors")
    return weights
