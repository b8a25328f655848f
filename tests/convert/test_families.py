# SPDX-License-Identifier: Apache-2.0
"""Each family's checkpoint, converted, gives the tokens and the vectors of the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import change_json, save_bfloat16, write_json
from support.family_checkpoints import (
    BYTE_BPE,
    FAMILIES,
    QUERY,
    RUNS,
    TEXTS,
    WIDTH,
    write_family_checkpoint,
)
from support.folders import TESTS

from embellama import EmbeddingModel, ModelConfig, PoolingStrategy, model_info
from embellama.convert import convert_checkpoint
from embellama.errors import ConfigurationError, ModelLoadError

REFERENCE = TESTS / "data" / "family_reference.npz"

# Sums of float32 in another order than torch's, through a few layers; scores are not normalised.
VECTOR_TOLERANCE = 2e-6
SCORE_TOLERANCE = 1e-5


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("accuracy", ["fast", "exact"])
def test_tokens_and_vectors(tmp_path: Path, family: str, accuracy: str) -> None:
    with np.load(REFERENCE) as reference:
        ids, lengths = reference[f"{family} tokens"], reference[f"{family} lengths"]
        classifies = FAMILIES[family].classifies
        expected = reference[f"{family} {'scores' if classifies else 'vectors'}"]
    write_family_checkpoint(tmp_path / family, family)
    output = convert_checkpoint(
        tmp_path / family, tmp_path / "model.gguf", file_type="F32", task=FAMILIES[family].task
    )
    if accuracy == "fast" and model_info(output).architecture == "bert":
        pytest.skip("computed in bfloat16 where the processor is faster with it")
    with EmbeddingModel(ModelConfig(output, accuracy=accuracy)) as model:
        if classifies:
            scores = {result.index: result.score for result in model.rerank(QUERY, TEXTS)}
            found = np.array([scores[index] for index in range(len(TEXTS))])
            np.testing.assert_allclose(found, expected, rtol=0, atol=SCORE_TOLERANCE)
            return
        tokens = [model.tokenize(text) for text in TEXTS]
        np.testing.assert_array_equal(np.concatenate(tokens), ids)
        assert [len(each) for each in tokens] == lengths.tolist()
        found = model.embed_batch(TEXTS)
        np.testing.assert_allclose(found, expected, rtol=0, atol=VECTOR_TOLERANCE)
        single = np.stack([model.embed(text) for text in TEXTS])
        np.testing.assert_allclose(single, expected, rtol=0, atol=VECTOR_TOLERANCE)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("nomic", {"moe_every_n_layers": 2}, "activation_function is 'swiglu'"),
        ("nomic-moe", {"activation_function": "swiglu"}, "activation_function is 'swiglu'"),
        ("nomic-moe", {"moe_normalize_expert_weights": True}, "moe_normalize_expert_weights is T"),
        ("nomic-moe", {"num_experts": 8}, r"\(192, 32\), but config.json asks for \(384"),
        ("nomic-moe", {"moe_top_k": 5}, "5 of 4 experts are used"),
        ("nomic-moe", {"moe_every_n_layers": 3}, "no place for the tensor encoder.layers.3.mlp"),
        ("nomic", {"activation_function": "gelu"}, "activation_function is 'gelu'"),
        ("nomic", {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction is 0.5"),
        ("nomic", {"rotary_emb_interleaved": True}, "rotary_emb_interleaved is True"),
        ("nomic", {"rotary_emb_base": "many"}, "rotary_emb_base must be a number"),
        ("nomic", {"qkv_proj_bias": True}, r"missing, the first is encoder.layers.0.attn.Wqkv.b"),
        ("nomic", {"architectures": ["NomicBertForSequenceClassification"]}, "head of Nomic BERT"),
        ("jina-v2", {"feed_forward_type": "original"}, "feed_forward_type is 'original'"),
        ("jina-v2", {"position_embedding_type": "absolute"}, "position_embedding_type is 'absol"),
        ("jina-v2", {"architectures": ["JinaBertForSequenceClassification"]}, "head of JinaBERT"),
        ("jina-v3", {"pad_token_id": 600}, "none of the 514 positions"),
        (
            "jina-v3",
            {"architectures": ["XLMRobertaForSequenceClassification"]},
            "a classification head with RoPE",
        ),
        ("modernbert", {"mlp_bias": True}, "mlp_bias is True"),
        ("modernbert", {"hidden_activation": "relu"}, "hidden_activation is 'relu'"),
        ("modernbert", {"layer_types": ["full_attention"] * 4}, "layer_types is not one layer of"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "rope_type is 'yarn'",
        ),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_theta": "many"}}},
            "rope_theta must be a positive number",
        ),
        ("modernbert-reranker", {"classifier_pooling": "max"}, "classifier_pooling is 'max'"),
        ("modernbert-reranker", {"classifier_activation": "relu"}, "classifier_activation is 're"),
        ("neobert", {"rope": False}, "rope is False"),
        ("neobert", {"architectures": ["NeoBERTForSequenceClassification"]}, "head of NeoBERT"),
        ("eurobert", {"attention_bias": True}, "attention_bias is True"),
        ("eurobert", {"rope_scaling": {"rope_type": "llama3"}}, "computes default, linear, yarn"),
        ("eurobert", {"rope_parameters": {"rope_theta": None}}, "rope_theta of rope_parameters m"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ("llama", {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "'longrope'"),
        ("llama", {"rope_scaling": 2.0}, "rope_scaling is 2.0"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 0.5}}, "a number from 1 on"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ("llama-embed", {"pooling": "weighted_avg"}, "pooling is 'weighted_avg'"),
        (
            "llama-3.1",
            {"rope_scaling": {"rope_type": "llama3", "factor": 8, "mscale": 1.0}},
            "rope_scaling sets mscale",
        ),
        (
            "llama-3.1",
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8,
                    "low_freq_factor": 4,
                    "high_freq_factor": 1,
                }
            },
            "low_freq_factor 4 must be below",
        ),
        (
            "qwen3",
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16}},
            "beta_fast is 16; llama.cpp computes 32.0 only",
        ),
        (
            "qwen3",
            {
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
                "original_max_position_embeddings": "many",
            },
            "original_max_position_embeddings must be a positive integer",
        ),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("qwen3", {"num_key_value_heads": 3}, "can't share 3 key-value heads"),
        ("qwen3", {"head_dim": 2**22}, "are too many"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "classification head"),
        ("embeddinggemma", {"use_bidirectional_attention": False}, "a Gemma 3 for text generation"),
        ("embeddinggemma", {"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ("embeddinggemma", {"query_pre_attn_scalar": 256}, "query_pre_attn_scalar is 256"),
        ("embeddinggemma", {"layer_types": ["full_attention"] * 4}, "layer_types is not layers"),
        ("embeddinggemma", {"num_key_value_heads": 3}, "can't share 3 key-value heads"),
        ("embeddinggemma", {"rope_scaling": {"factor": 8.0}}, "rope_scaling is"),
        ("sentence-t5", {"feed_forward_proj": "gated-silu"}, "feed_forward_proj is 'gated-silu'"),
        ("sentence-t5", {"relative_attention_max_distance": 64}, "max_distance is 64"),
        ("sentence-t5", {"d_kv": 2**20}, "are too many"),
        ("sentence-t5", {"architectures": ["T5EncoderForTokenClassification"]}, "head on T5's"),
    ],
)
def test_refused(tmp_path: Path, family: str, changes: dict[str, Any], message: str) -> None:
    write_family_checkpoint(tmp_path / "tiny", family)
    change_json(tmp_path / "tiny" / "config.json", **changes)
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_mixture_has_its_router_in_float32_and_the_bias_of_its_experts(tmp_path: Path) -> None:
    weights = write_family_checkpoint(tmp_path / "tiny", "nomic-moe")
    output = convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf", file_type="Q8_0")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(output).tensors}
    assert tensors["blk.1.ffn_gate_inp.weight"].tensor_type.name == "F32"
    assert tensors["blk.1.ffn_up_exps.weight"].tensor_type.name == "Q8_0"
    np.testing.assert_array_equal(
        tensors["blk.1.ffn_down.bias"].data, weights["encoder.layers.1.mlp.experts.bias"]
    )
    with EmbeddingModel(output) as model:
        assert model.info.doubts(model.pooling) == []
        assert model.embed("hello world").shape == (WIDTH,)


def test_the_instruction_of_a_task_is_its_prompt(tmp_path: Path) -> None:
    write_family_checkpoint(tmp_path / "tiny", "jina-v3")
    task = "retrieval.query"
    output = convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf", task=task)
    with EmbeddingModel(output) as model:
        assert model.metadata["embellama.task"] == task
        assert set(model.info.prompts.values()) == {"hello the "}
        expected = model.embed("hello the world")
        np.testing.assert_array_equal(model.embed_query("world"), expected)
        np.testing.assert_array_equal(model.embed_documents(["world"])[0], expected)
    silent = convert_checkpoint(tmp_path / "tiny", tmp_path / "silent.gguf", task="separation")
    assert model_info(silent).prompts == {}


def test_without_a_task_the_tasks_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_family_checkpoint(tmp_path / "tiny", "jina-v3")
    convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    (record,) = caplog.records
    assert "adapters for separation, retrieval.query, text-matching" in record.getMessage()


@pytest.mark.parametrize(
    ("family", "task", "message"),
    [
        ("jina-v3", "retrieval", "one of separation, retrieval.query, text-matching"),
        ("jina-reranker-v2", "separation", "has no adapters; leave it out"),
    ],
)
def test_unknown_tasks(tmp_path: Path, family: str, task: str, message: str) -> None:
    write_family_checkpoint(tmp_path / "tiny", family)
    with pytest.raises(ConfigurationError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf", task=task)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_adaptations": "separation"}, "must be a list of tasks"),
        ({"lora_adaptations": ["separation", "separation"]}, "must be a list of tasks"),
        ({"lora_adaptations": ["separation", "other"]}, "do not fit 2 tasks, the rank 4"),
        ({"lora_rank": 8}, "do not fit 3 tasks, the rank 8"),
        ({"lora_alpha": "much"}, "lora_alpha must be a number"),
        ({"task_instructions": {"separation": 1}}, "task_instructions must map tasks to texts"),
    ],
)
def test_refused_adapters(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_family_checkpoint(tmp_path / "tiny", "jina-v3")
    change_json(tmp_path / "tiny" / "config.json", **changes)
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf", task="separation")


def change_adapter(weights: dict[str, np.ndarray], change: str) -> None:
    name = "roberta.encoder.layers.1.mixer.Wqkv.parametrizations.weight.0.lora_A"
    if change == "missing":
        del weights[name]
    elif change == "large":
        weights[name] *= np.float32(1e37)
        weights[name.replace("lora_A", "lora_B")] *= np.float32(1e37)
    else:
        for other in [name for name in weights if ".0.lora_" in name]:
            del weights[other]
            original = other.rpartition(".0.")[0] + ".original"
            if original in weights:
                weights[original.replace(".parametrizations.weight.original", ".weight")] = (
                    weights.pop(original)
                )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "Wqkv has no adapters"),
        ("large", "too large for float32"),
        ("none", "the weights hold no adapters"),
    ],
)
def test_damaged_adapters(tmp_path: Path, change: str, message: str) -> None:
    weights = write_family_checkpoint(tmp_path / "tiny", "jina-v3")
    change_adapter(weights, change)
    save_file(weights, tmp_path / "tiny" / "model.safetensors")
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf", task="separation")


def test_settings_of_transformers_5_give_the_same_file(tmp_path: Path) -> None:
    write_family_checkpoint(tmp_path / "tiny", "modernbert")
    old = convert_checkpoint(tmp_path / "tiny", tmp_path / "old.gguf")
    change_json(
        tmp_path / "tiny" / "config.json",
        global_rope_theta=None,
        local_rope_theta=None,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    )
    new = convert_checkpoint(tmp_path / "tiny", tmp_path / "new.gguf")
    assert new.read_bytes() == old.read_bytes()


@pytest.mark.parametrize("family", ["embeddinggemma", "sentence-t5"])
def test_no_float16_where_activations_overflow_in_it(tmp_path: Path, family: str) -> None:
    weights = write_family_checkpoint(tmp_path / "tiny", family)

    def default_type() -> str:
        return model_info(convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")).file_type

    with pytest.raises(ModelLoadError, match="use the type BF16, F32 or Q8_0"):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf", file_type="f16")
    assert default_type() == "F32"
    save_bfloat16(weights, tmp_path / "tiny" / "model.safetensors")
    assert default_type() == "F32"  # the Dense module's weights are float32
    for folder in (tmp_path / "tiny").glob("?_Dense"):
        path = folder / "model.safetensors"
        save_bfloat16(load_file(path), path)
    assert default_type() == "BF16"


def test_runs_of_spaces_are_tokens_of_gemma(tmp_path: Path) -> None:
    with np.load(REFERENCE) as reference:
        ids = reference["embeddinggemma tokens of runs"]
        lengths = reference["embeddinggemma lengths of runs"]
    write_family_checkpoint(tmp_path / "tiny", "embeddinggemma")
    output = convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    with EmbeddingModel(output) as model:
        tokens = [model.tokenize(text) for text in RUNS]
    assert [len(each) for each in tokens] == lengths.tolist()
    np.testing.assert_array_equal(np.concatenate(tokens), ids)


@pytest.mark.parametrize(
    ("family", "buffer"),
    [
        ("llama", "layers.0.self_attn.rotary_emb.inv_freq"),
        ("nomic", "embeddings.position_ids"),
        ("jina-v2", "embeddings.position_ids"),
        ("modernbert", "decoder.bias"),
        ("neobert", "decoder.bias"),
        ("embeddinggemma", "lm_head.weight"),
        ("sentence-t5", "encoder.embed_tokens.weight"),
    ],
)
def test_buffers_and_other_heads_are_left_out(tmp_path: Path, family: str, buffer: str) -> None:
    weights = write_family_checkpoint(tmp_path / "tiny", family)
    plain = convert_checkpoint(tmp_path / "tiny", tmp_path / "plain.gguf")
    weights[buffer] = np.arange(4, dtype=np.float32)
    save_file(weights, tmp_path / "tiny" / "model.safetensors")
    more = convert_checkpoint(tmp_path / "tiny", tmp_path / "more.gguf")
    assert more.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize(
    ("family", "pooling"),
    [("neobert", PoolingStrategy.CLS), ("llama-embed", PoolingStrategy.MEAN)],
)
def test_the_pooling_of_a_family(tmp_path: Path, family: str, pooling: PoolingStrategy) -> None:
    write_family_checkpoint(tmp_path / "tiny", family)
    (tmp_path / "tiny" / "modules.json").unlink()
    info = model_info(convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf"))
    assert info.pooling is pooling
    assert info.pooling_source != "a guess"


def test_the_window_of_mistral_limits_its_texts(tmp_path: Path) -> None:
    write_family_checkpoint(tmp_path / "tiny", "mistral")
    change_json(tmp_path / "tiny" / "config.json", sliding_window=100)
    output = convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
    with EmbeddingModel(output) as model:
        assert model.max_sequence_length == 100


def write_logit_score(folder: Path, yes: Any, no: Any) -> None:
    write_json(
        folder / "modules.json",
        [
            {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {"path": "1_Score", "type": "sentence_transformers.cross_encoder.modules.LogitScore"},
        ],
    )
    (folder / "1_Score").mkdir()
    write_json(folder / "1_Score" / "config.json", {"true_token_id": yes, "false_token_id": no})


def test_modules_name_the_tokens_of_a_reranker(tmp_path: Path) -> None:
    weights = write_family_checkpoint(tmp_path / "tiny", "qwen3-reranker")
    (tmp_path / "tiny" / "README.md").unlink()
    yes, no = BYTE_BPE.index("yes"), BYTE_BPE.index("no")
    write_logit_score(tmp_path / "tiny", yes, no)
    # An output matrix that is not tied to the embeddings.
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"][::-1].copy()
    save_file(weights, tmp_path / "tiny" / "model.safetensors")
    output = convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf", file_type="F32")
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(output).tensors}
    np.testing.assert_array_equal(
        tensors["cls.output.weight"], weights["lm_head.weight"][[yes, no]]
    )


@pytest.mark.parametrize(
    ("family", "yes", "no", "message"),
    [
        ("llama", 1, 2, "for Qwen3ForCausalLM only"),
        ("qwen3-reranker", 1, None, "a GGUF has two tokens for a score"),
        ("qwen3-reranker", 1, 10**6, "no tokens"),
    ],
)
def test_refused_rerankers(
    tmp_path: Path, family: str, yes: int, no: int | None, message: str
) -> None:
    write_family_checkpoint(tmp_path / "tiny", family)
    write_logit_score(tmp_path / "tiny", yes, no)
    with pytest.raises(ModelLoadError, match=message):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")


def test_a_reranker_by_its_card_needs_its_answers(tmp_path: Path) -> None:
    write_family_checkpoint(tmp_path / "tiny", "jina-v2")
    (tmp_path / "tiny" / "README.md").write_text("---\n---\n# Qwen3-Reranker\n")
    with pytest.raises(ModelLoadError, match='no tokens "yes" and "no"'):
        convert_checkpoint(tmp_path / "tiny", tmp_path / "tiny.gguf")
