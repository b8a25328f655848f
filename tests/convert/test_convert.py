# SPDX-License-Identifier: Apache-2.0
"""Checkpoints made here, converted, and read back with gguf-py and with llama.cpp."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoints import (
    BPE,
    N_EMBD,
    N_FF,
    N_HEADS,
    N_LAYERS,
    N_POSITIONS,
    UNIGRAM,
    WORDPIECE,
    change_json,
    save_bfloat16,
    shard,
    write_checkpoint,
    write_json,
    write_pooling,
    write_wordpiece,
)

from embellama import EmbeddingModel
from embellama.convert import FILE_TYPES, convert_checkpoint
from embellama.core import Model, Vocabulary
from embellama.errors import ConfigurationError, ModelLoadError, ModelNotFoundError


def convert(checkpoint: Path, file_type: str = "F32") -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert; return metadata and tensors by name."""
    output = checkpoint.with_suffix(f".{file_type}.gguf")
    assert convert_checkpoint(checkpoint, output, file_type=file_type) == output
    reader = gguf.GGUFReader(output)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    return metadata, {tensor.name: tensor for tensor in reader.tensors}


def values(tensor: Any) -> np.ndarray:
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def tokenize(checkpoint: Path, text: str) -> list[str]:
    """Split a text with llama.cpp, by the F32 file that `convert` wrote."""
    output = checkpoint.with_suffix(".F32.gguf")
    tokens = gguf.GGUFReader(output).fields["tokenizer.ggml.tokens"].contents()
    with EmbeddingModel(output) as model:
        return [tokens[index] for index in model.tokenize(text)]


def bfloat16(array: np.ndarray) -> np.ndarray:
    """Cut to the bits that a bfloat16 keeps."""
    return (array.view(np.uint32) & 0xFFFF0000).view(np.float32)


def test_metadata_of_bert(checkpoint: Path) -> None:
    metadata, _ = convert(checkpoint, "F16")
    expected = {
        "general.architecture": "bert",
        "general.type": "model",
        "general.name": "Tiny Bert",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "bert.block_count": N_LAYERS,
        "bert.context_length": N_POSITIONS,
        "bert.embedding_length": N_EMBD,
        "bert.feed_forward_length": N_FF,
        "bert.attention.head_count": N_HEADS,
        "bert.attention.causal": False,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.mask_token_id": 4,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.add_sep_token": False,
        "tokenizer.ggml.normalizer.lowercase": True,
    }
    assert {name: metadata[name] for name in expected} == expected
    assert metadata["bert.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    assert not metadata.keys() & {
        "bert.pooling_type",
        "bert.classifier.output_labels",
        "tokenizer.ggml.normalizer.strip_accents",
    }
    tokens = dict(
        zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True)
    )
    assert len(tokens) == len(WORDPIECE)
    assert tokens["[CLS]"] == gguf.TokenType.CONTROL
    # "##a" continues a word, "a" begins one.
    assert tokens["a"] == tokens["\u2581a"] == gguf.TokenType.NORMAL
    assert "##a" not in tokens


def test_general_metadata_comes_from_the_model_card(checkpoint: Path) -> None:
    (checkpoint / "README.md").write_text("---\nlicense: mit\nmodel_version: 1.5\n---\n# Card\n")
    metadata, _ = convert(checkpoint)
    assert metadata["general.license"] == "mit"
    assert metadata["general.version"] == "1.5"


@pytest.mark.parametrize("file_type", ["F32", "F16", "BF16"])
def test_tensors_of_bert(tmp_path: Path, file_type: str) -> None:
    weights = write_checkpoint(tmp_path / "tiny")
    _, tensors = convert(tmp_path / "tiny", file_type)
    names = {
        "token_embd.weight": "embeddings.word_embeddings.weight",
        "token_types.weight": "embeddings.token_type_embeddings.weight",
        "position_embd.weight": "embeddings.position_embeddings.weight",
        "token_embd_norm.bias": "embeddings.LayerNorm.bias",
        "blk.0.attn_q.weight": "encoder.layer.0.attention.self.query.weight",
        "blk.0.attn_k.bias": "encoder.layer.0.attention.self.key.bias",
        "blk.0.attn_v.weight": "encoder.layer.0.attention.self.value.weight",
        "blk.1.attn_output.weight": "encoder.layer.1.attention.output.dense.weight",
        "blk.1.attn_output_norm.weight": "encoder.layer.1.attention.output.LayerNorm.weight",
        "blk.1.ffn_up.weight": "encoder.layer.1.intermediate.dense.weight",
        "blk.1.ffn_down.weight": "encoder.layer.1.output.dense.weight",
        "blk.1.layer_output_norm.bias": "encoder.layer.1.output.LayerNorm.bias",
    }
    assert len(tensors) == len(weights)
    for name, source in names.items():
        tensor, expected = tensors[name], weights[source]
        assert tuple(reversed(tensor.shape.tolist())) == expected.shape
        narrow = name.startswith(("blk", "token_embd.")) and expected.ndim == 2
        assert tensor.tensor_type.name == (file_type if narrow else "F32")
        if tensor.tensor_type.name == "F32":
            np.testing.assert_array_equal(values(tensor), expected)
        elif file_type == "F16":
            np.testing.assert_array_equal(tensor.data, expected.astype(np.float16))
        else:
            np.testing.assert_allclose(values(tensor), expected, rtol=2**-8)


def test_shards_give_the_same_file(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "tiny")
    whole = convert_checkpoint(tmp_path / "tiny", tmp_path / "whole.gguf")
    shard(tmp_path / "tiny", weights)
    parts = convert_checkpoint(tmp_path / "tiny", tmp_path / "parts.gguf")
    assert parts.read_bytes() == whole.read_bytes()


def test_vocab_txt_gives_the_same_file(checkpoint: Path, tmp_path: Path) -> None:
    described = convert_checkpoint(checkpoint, tmp_path / "described.gguf")
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "vocab.txt").write_text("\n".join(WORDPIECE) + "\n", encoding="utf-8")
    listed = convert_checkpoint(checkpoint, tmp_path / "listed.gguf")
    assert listed.read_bytes() == described.read_bytes()


def test_switches_saved_beside_vocab_txt(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "vocab.txt").write_text("\n".join(WORDPIECE[:-2]) + "\n", encoding="utf-8")
    write_json(
        checkpoint / "special_tokens_map.json",
        {"mask_token": {"content": "[MASK]", "lstrip": True}},
    )
    n_tokens = len(WORDPIECE)
    added = {"content": "COVID19", "special": False, "single_word": True, "normalized": True}
    settings = {"added_tokens_decoder": {str(n_tokens - 2): added}, "do_lower_case": True}
    write_json(checkpoint / "tokenizer_config.json", settings)
    output = convert_checkpoint(checkpoint, tmp_path / "tiny.gguf")
    vocabulary = Vocabulary(Model(str(output)))
    found = [vocabulary.token(i) for i in vocabulary.tokenize("a  [MASK] covid19 covid192")]
    assert found[:4] == ["[CLS]", "\u2581a", "[MASK]", "\u2581COVID19"]
    assert "\u2581COVID19" not in found[4:]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F64"])
def test_other_types_of_weights(tmp_path: Path, dtype: str) -> None:
    weights = write_checkpoint(tmp_path / "tiny")
    path = tmp_path / "tiny" / "model.safetensors"
    if dtype == "BF16":
        save_bfloat16(weights, path)
        stored = {name: bfloat16(array) for name, array in weights.items()}
    else:
        numpy_type = np.float16 if dtype == "F16" else np.float64
        stored = {name: array.astype(numpy_type) for name, array in weights.items()}
        save_file(stored, path)
    _, tensors = convert(tmp_path / "tiny")
    for name, source in (
        ("token_embd.weight", "embeddings.word_embeddings.weight"),
        ("blk.1.ffn_down.bias", "encoder.layer.1.output.dense.bias"),
    ):
        assert tensors[name].tensor_type.name == "F32"
        np.testing.assert_array_equal(values(tensors[name]), stored[source].astype(np.float32))


@pytest.mark.parametrize(("small", "expected"), [(False, "F16"), (True, "BF16")])
def test_bfloat16_stays_what_it_is_unless_float16_holds_it(
    tmp_path: Path, small: bool, expected: str
) -> None:
    weights = write_checkpoint(tmp_path / "tiny")
    name = "encoder.layer.0.output.dense.weight"
    # float16 keeps the 8 bits of a bfloat16 down to 2^-14, and fewer below.
    for each, array in weights.items():
        weights[each] = np.clip(np.abs(array), 2**-14, 1).astype(np.float32)
    if small:
        weights[name][0, 0] = (1 + 2**-7) * 2**-18
    save_bfloat16(weights, tmp_path / "tiny" / "model.safetensors")
    output = convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(output).tensors}
    found = tensors["blk.0.ffn_down.weight"]
    assert found.tensor_type.name == expected
    np.testing.assert_array_equal(values(found), bfloat16(weights[name]))


def test_old_names_and_unused_tensors(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "tiny")
    plain = convert_checkpoint(tmp_path / "tiny", tmp_path / "plain.gguf")
    renamed = {
        "bert." + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): array
        for name, array in weights.items()
    }
    for name in ("cls.predictions.bias", "bert.pooler.dense.bias", "classifier.bias"):
        renamed[name] = np.zeros(3, np.float32)
    renamed["bert.embeddings.position_ids"] = np.arange(N_POSITIONS)[None]
    save_file(renamed, tmp_path / "tiny" / "model.safetensors")
    old = convert_checkpoint(tmp_path / "tiny", tmp_path / "old.gguf")
    assert old.read_bytes() == plain.read_bytes()


def test_missing_tokens_are_padded(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tiny")
    write_wordpiece(tmp_path / "tiny", WORDPIECE[:-2])
    metadata, _ = convert(tmp_path / "tiny")
    n = len(WORDPIECE)
    assert metadata["tokenizer.ggml.tokens"][-2:] == [f"\u2581[PAD{n - 2}]", f"\u2581[PAD{n - 1}]"]
    assert metadata["tokenizer.ggml.token_type"][-2:] == [gguf.TokenType.UNUSED] * 2


@pytest.mark.parametrize(
    ("normalizer", "text", "tokens"),
    [
        ({"type": "BertNormalizer", "lowercase": True}, "H\u00e9", ["\u2581h", "e"]),
        ({"type": "BertNormalizer", "lowercase": False}, "h H", ["\u2581h", "[UNK]"]),
        (
            {
                "type": "Sequence",
                "normalizers": [
                    {"type": "NFD"},
                    {"type": "StripAccents"},
                    {"type": "BertNormalizer", "lowercase": False},
                ],
            },
            "h\u00e9 H",
            ["\u2581h", "e", "[UNK]"],
        ),
    ],
)
def test_normalizer(
    checkpoint: Path, normalizer: dict[str, Any] | None, text: str, tokens: list[str]
) -> None:
    change_json(checkpoint / "tokenizer.json", normalizer=normalizer)
    convert(checkpoint)
    assert tokenize(checkpoint, text) == ["[CLS]", *tokens, "[SEP]"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, 1),
        ({"pooling_mode_cls_token": True}, 2),
        ({"pooling_mode_lasttoken": True}, 3),
        ({"pooling_mode": "mean"}, 1),
        ({"pooling_mode": ["cls"]}, 2),
    ],
)
def test_pooling(checkpoint: Path, settings: dict[str, Any], expected: int) -> None:
    write_pooling(checkpoint, settings)
    metadata, _ = convert(checkpoint)
    assert metadata["bert.pooling_type"] == expected


def test_roberta(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    weights = write_checkpoint(tiny, "RobertaModel", "BPE", pad_token_id=1)
    metadata, tensors = convert(tiny)
    # The first position a text can have is pad_token_id + 1.
    assert metadata["bert.context_length"] == N_POSITIONS - 2
    np.testing.assert_array_equal(
        values(tensors["position_embd.weight"]),
        weights["embeddings.position_embeddings.weight"][2:],
    )
    assert metadata["tokenizer.ggml.model"] == "gpt2"
    assert metadata["tokenizer.ggml.pre"] == "roberta-bpe"
    assert metadata["tokenizer.ggml.tokens"] == BPE
    assert metadata["tokenizer.ggml.merges"] == ["\u0120 w", "h e"]
    assert metadata["tokenizer.ggml.add_sep_token"] is True
    assert tokenize(tiny, "he wow") == ["<s>", "he", "\u0120w", "o", "w", "</s>"]


@pytest.mark.parametrize("architecture", ["XLMRobertaModel", "BertModel"])
def test_unigram(tmp_path: Path, architecture: str) -> None:
    """multilingual-e5-small and others put XLM-RoBERTa's vocabulary into a BertModel."""
    tiny = tmp_path / "tiny"
    write_checkpoint(tiny, architecture, "Unigram")
    metadata, _ = convert(tiny)
    offset = 2 if architecture == "XLMRobertaModel" else 0
    assert metadata["bert.context_length"] == N_POSITIONS - offset
    assert metadata["tokenizer.ggml.model"] == "t5"
    assert metadata["tokenizer.ggml.tokens"] == [token for token, _ in UNIGRAM]
    assert metadata["tokenizer.ggml.scores"] == [score for _, score in UNIGRAM]
    types = metadata["tokenizer.ggml.token_type"]
    assert (types[0], types[3], types[5], types[-1]) == (3, 2, 1, 3)
    assert metadata["tokenizer.ggml.add_sep_token"] is True
    assert metadata["tokenizer.ggml.add_space_prefix"] is True
    assert metadata["tokenizer.ggml.remove_extra_whitespaces"] is True
    expected = ["<s>", "\u2581hello", "\u2581world", "</s>"]
    assert tokenize(tiny, "hello  world ") == expected


METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}
SPLIT = {"type": "WhitespaceSplit"}
MERGED = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}


@pytest.mark.parametrize(
    ("normalizers", "pre_tokenizer", "kept"),
    [
        # As in bge-m3 and multilingual-e5; T5; the first XLM-RoBERTa.
        ([MERGED], METASPACE, True),
        ([{"type": "Strip", "strip_left": False, "strip_right": True}, MERGED], METASPACE, False),
        (
            [],
            {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]},
            False,
        ),
    ],
)
def test_white_space_at_the_end_of_a_unigram_text(
    tmp_path: Path, normalizers: list[Any], pre_tokenizer: Any, kept: bool
) -> None:
    """The package tokenizers gives these tokens for multilingual-e5-small's tokenizer.json."""
    tiny = tmp_path / "tiny"
    write_checkpoint(tiny, "XLMRobertaModel", "Unigram")
    change_json(
        tiny / "tokenizer.json",
        normalizer={"type": "Sequence", "normalizers": normalizers},
        pre_tokenizer=pre_tokenizer,
    )
    convert(tiny)
    end = ["\u2581"] if kept else []
    for text in ("hello world ", "hello  world   ", "  hello world "):
        assert tokenize(tiny, text) == ["<s>", "\u2581hello", "\u2581world", *end, "</s>"]
    assert tokenize(tiny, "hello") == ["<s>", "\u2581hello", "</s>"]


def test_unigram_normalisation(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    write_checkpoint(tiny, "XLMRobertaModel", "Unigram")
    charsmap = bytes([8, 0, 0, 0, *range(8), *b"abc\0"])  # bytes of the trie, trie, replacement
    change_json(
        tiny / "tokenizer.json",
        normalizer={
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
            ],
        },
        pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never"},
    )
    metadata, _ = convert(tiny)
    assert bytes(metadata["tokenizer.ggml.precompiled_charsmap"]) == charsmap
    assert metadata["tokenizer.ggml.add_space_prefix"] is False
    assert metadata["tokenizer.ggml.remove_extra_whitespaces"] is False


def test_distilbert(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    weights = write_checkpoint(tiny, "DistilBertModel", activation="gelu")
    metadata, tensors = convert(tiny)
    assert metadata["bert.block_count"] == N_LAYERS
    assert metadata["bert.attention.layer_norm_epsilon"] == pytest.approx(1e-12)
    assert metadata["tokenizer.ggml.token_type_count"] == 1
    assert "token_types.weight" not in tensors
    np.testing.assert_array_equal(
        values(tensors["blk.1.ffn_down.weight"]), weights["transformer.layer.1.ffn.lin2.weight"]
    )
    assert tokenize(tiny, "hello") == ["[CLS]", "\u2581hello", "[SEP]"]


@pytest.mark.parametrize(
    ("architecture", "tokenizer", "dense", "output"),
    [
        ("BertForSequenceClassification", "WordPiece", "pooler.dense", "classifier"),
        (
            "XLMRobertaForSequenceClassification",
            "Unigram",
            "classifier.dense",
            "classifier.out_proj",
        ),
    ],
)
@pytest.mark.parametrize("n_labels", [1, 3])
def test_classification(
    tmp_path: Path, architecture: str, tokenizer: str, dense: str, output: str, n_labels: int
) -> None:
    tiny = tmp_path / "tiny"
    weights = write_checkpoint(tiny, architecture, tokenizer, n_labels)
    metadata, tensors = convert(tiny)
    labels = [f"label {index}" for index in range(n_labels)]
    assert list(metadata["bert.classifier.output_labels"]) == labels
    for name, source in (("cls", dense), ("cls.output", output)):
        for part in ("weight", "bias"):
            np.testing.assert_array_equal(
                values(tensors[f"{name}.{part}"]).ravel(), weights[f"{source}.{part}"].ravel()
            )
    model = Model(str(tiny.with_suffix(".F32.gguf")))
    assert model.n_scores == n_labels
    model.close()


@pytest.mark.parametrize(("file_type", "number"), [("q8_0", 7), ("Q4_K_M", 15)])
def test_quantised(checkpoint: Path, file_type: str, number: int) -> None:
    metadata, tensors = convert(checkpoint, file_type)
    assert metadata["general.file_type"] == number
    assert tensors["blk.0.ffn_up.weight"].tensor_type.name.startswith("Q")
    assert tensors["position_embd.weight"].tensor_type.name == "F32"
    assert sorted(path.suffix for path in checkpoint.parent.iterdir()) == ["", ".gguf"]


def test_file_types_are_those_of_gguf() -> None:
    for name, number in FILE_TYPES.items():
        assert gguf.LlamaFileType(number).name.endswith(f"_{name}")


def test_replaces_an_existing_file(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.gguf"
    output.write_bytes(b"old")
    convert_checkpoint(str(checkpoint), str(output), file_type="bf16")
    assert output.read_bytes()[:4] == b"GGUF"
    assert output.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "tiny")
    # Found when the last tensors are written.
    weights["encoder.layer.1.output.dense.weight"][3, 5] = np.nan
    save_file(weights, tmp_path / "tiny" / "model.safetensors")
    output = tmp_path / "model.gguf"
    output.write_bytes(b"old")
    for file_type in ("F16", "Q8_0"):
        with pytest.raises(ModelLoadError, match=r"output\.dense\.weight holds a NaN"):
            convert_checkpoint(tmp_path / "tiny", output, file_type=file_type)
        assert output.read_bytes() == b"old"
        assert {path.name for path in tmp_path.iterdir()} == {"tiny", "model.gguf"}


def test_too_large_for_f16(tmp_path: Path) -> None:
    weights = write_checkpoint(tmp_path / "tiny")
    weights["embeddings.word_embeddings.weight"][0, 0] = 1e6
    save_file(weights, tmp_path / "tiny" / "model.safetensors")
    with pytest.raises(ModelLoadError, match="too large for F16"):
        convert(tmp_path / "tiny", "F16")
    convert(tmp_path / "tiny", "BF16")


def test_progress_goes_to_standard_error(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert_checkpoint(checkpoint, checkpoint.with_suffix(".gguf"))
    assert capsys.readouterr() == ("", "")
    convert_checkpoint(checkpoint, checkpoint.with_suffix(".gguf"), progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "tiny-bert: 100%" in captured.err


def test_bad_arguments(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.gguf"
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        convert_checkpoint(tmp_path / "nothing", output)
    with pytest.raises(ModelNotFoundError, match="not a file"):
        convert_checkpoint(checkpoint / "config.json", output)
    with pytest.raises(ConfigurationError, match=r"F32, F16, BF16.*'Q9_X'"):
        convert_checkpoint(checkpoint, output, file_type="Q9_X")
    with pytest.raises(TypeError, match="file_type must be a str"):
        convert_checkpoint(checkpoint, output, file_type=7)  # type: ignore[arg-type]
    for n_threads in (0, 513, 2**40, -(10**5000)):
        with pytest.raises(ConfigurationError, match="n_threads must be from 1 to 512"):
            convert_checkpoint(checkpoint, output, file_type="Q8_0", n_threads=n_threads)
    for wrong in (True, 1.0):
        with pytest.raises(TypeError, match="n_threads must be an integer"):
            convert_checkpoint(checkpoint, output, n_threads=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is a directory"):
        convert_checkpoint(checkpoint, tmp_path)
    with pytest.raises(ConfigurationError, match="no such directory"):
        convert_checkpoint(checkpoint, tmp_path / "nothing" / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-bert"]


@pytest.mark.parametrize(
    ("name", "body", "tokenizer", "prefix"),
    [
        ("BertForMaskedLM", "BertModel", "WordPiece", "bert."),
        ("BertForPreTraining", "BertModel", "WordPiece", "bert."),
        ("BertForTokenClassification", "BertModel", "WordPiece", "bert."),
        ("RobertaForMaskedLM", "RobertaModel", "BPE", "roberta."),
        ("XLMRobertaForMaskedLM", "XLMRobertaModel", "Unigram", "roberta."),
        ("CamembertModel", "XLMRobertaModel", "Unigram", ""),
        ("CamembertForMaskedLM", "XLMRobertaModel", "Unigram", "roberta."),
        ("DistilBertForMaskedLM", "DistilBertModel", "WordPiece", "distilbert."),
    ],
)
def test_every_head_of_a_body_gives_the_same_file(
    tmp_path: Path, name: str, body: str, tokenizer: str, prefix: str
) -> None:
    tiny = tmp_path / "tiny"
    weights = write_checkpoint(tiny, body, tokenizer)
    plain = convert_checkpoint(tiny, tmp_path / "plain.gguf")
    change_json(tiny / "config.json", architectures=[name])
    heads = {"classifier.weight"} if "Token" in name else {"cls.predictions.bias", "lm_head.bias"}
    if body == "DistilBertModel":
        heads = {"vocab_transform.weight", "vocab_projector.bias"}
    renamed = {prefix + source: array for source, array in weights.items()}
    save_file(
        renamed | {head: np.zeros(3, np.float32) for head in heads}, tiny / "model.safetensors"
    )
    headed = convert_checkpoint(tiny, tmp_path / "headed.gguf")
    assert headed.read_bytes() == plain.read_bytes()
