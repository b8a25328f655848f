# SPDX-License-Identifier: Apache-2.0
"""Compare embellama's conversion of checkpoints with llama.cpp's own, key by key, bit by bit.

    PYTHONPATH=tests python tests/data/compare_with_llama_cpp_converter.py LLAMA_CPP CHECKPOINT

LLAMA_CPP is a checkout of llama.cpp at the release that embellama pins, CHECKPOINT a directory
with a config.json. Without CHECKPOINT the small ones of all families are compared, in F16 only,
and those that overflow in it in F32.
``--python`` names an interpreter with torch, transformers and sentencepiece, which llama.cpp's
converter needs; default: this one.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gguf import GGUFReader
from safetensors.numpy import load_file, save_file
from support.checkpoints import change_json
from support.family_checkpoints import FAMILIES, write_family_checkpoint

from embellama.convert import convert_checkpoint
from embellama.convert.architecture import overflows_in_float16
from embellama.convert.config_json import Config

# llama.cpp's converter knows vocabularies by a hash of what they make of a text. None is as small
# as those of the families.
PROGRAM = """
import runpy
import sys

llama_cpp, is_small, *arguments = sys.argv[1:]
sys.path[:0] = [llama_cpp, llama_cpp + "/gguf-py"]
if is_small == "small":
    import conversion.base

    conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "default"
sys.argv[1:] = arguments
runpy.run_path(llama_cpp + "/convert_hf_to_gguf.py", run_name="__main__")
"""

WORDPIECE = {
    "tokenizer_class": "BertTokenizer",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
XLM_ROBERTA = {
    "tokenizer_class": "XLMRobertaTokenizer",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
# What every published checkpoint says, and embellama's tests leave out.
NOMIC = {
    "causal": False,
    "prenorm": False,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
}


def write_published_layout(folder: Path, family: str) -> None:
    """Write a family's checkpoint so that llama.cpp's converter takes it."""
    write_family_checkpoint(folder, family)
    config = folder / "config.json"
    if family.startswith("nomic"):
        change_json(config, **{**NOMIC, **FAMILIES[family].config})
    elif family.startswith("eurobert"):
        change_json(config, classifier_pooling="mean")
    elif family == "mistral" or (family.startswith("llama-") and family != "llama-embed"):
        name = "MistralForCausalLM" if family == "mistral" else "LlamaForCausalLM"
        change_json(config, architectures=[name])
        weights = load_file(folder / "model.safetensors")
        prefixed = {f"model.{tensor}": values for tensor, values in weights.items()}
        save_file(prefixed, folder / "model.safetensors")
    tokenizer = folder / "tokenizer.json"
    kind = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["type"]
    if kind == "WordPiece":
        change_json(folder / "tokenizer_config.json", **WORDPIECE)
    elif kind == "Unigram" and family != "camembert":
        change_json(folder / "tokenizer_config.json", **XLM_ROBERTA)
        # The bytes of the trie, the trie, a replacement.
        charsmap = base64.b64encode(bytes([8, 0, 0, 0, *range(8), *b"abc\0"])).decode()
        normalizer = {"type": "Precompiled", "precompiled_charsmap": charsmap}
        change_json(tokenizer, normalizer=normalizer)


def contents(path: Path) -> dict[str, Any]:
    """Return what a GGUF file holds, but for the order."""
    reader = GGUFReader(path)
    found: dict[str, Any] = {
        name: (field.types, field.contents())
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    for tensor in reader.tensors:
        found[f"tensor {tensor.name}"] = (
            tensor.tensor_type.name,
            tensor.shape.tolist(),
            tensor.data.tobytes(),
        )
    return found


def n_differences(
    llama_cpp: str, checkpoint: Path, file_type: str, python: str, is_small: bool
) -> int:
    """Print what differs, and return how much it is."""
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder, "theirs.gguf"), Path(folder, "ours.gguf")
        size = "small" if is_small else "real"
        options = ["--outfile", str(theirs), "--outtype", file_type]
        command = [python, "-c", PROGRAM, llama_cpp, size, str(checkpoint), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not theirs.exists():
            print(f"llama.cpp's converter fails: {done.stderr.strip().splitlines()[-1]}")
            return 1
        convert_checkpoint(checkpoint, ours, file_type=file_type)
        same = theirs.read_bytes() == ours.read_bytes()
        left, right = contents(theirs), contents(ours)
    different = [
        name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)
    ]
    for name in different:
        print(f"{name}: {str(left.get(name))[:100]} | {str(right.get(name))[:100]}")
    print(f"{file_type}: {len(left)} keys and tensors, bytes {'' if same else 'not '}equal")
    return len(different)


def main() -> int:
    """Print what differs; return 1 if anything does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("llama_cpp")
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--python", default=sys.executable)
    asked = parser.parse_args()
    total = 0
    if asked.checkpoint is not None:
        for file_type in ("f32", "f16", "bf16"):
            checkpoint = Path(asked.checkpoint)
            total += n_differences(asked.llama_cpp, checkpoint, file_type, asked.python, False)
        return int(total > 0)
    for family in [name for name, family in FAMILIES.items() if family.task is None]:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{family}:")
            write_published_layout(Path(folder, family), family)
            checkpoint = Path(folder, family)
            overflows = overflows_in_float16(Config(checkpoint / "config.json"))
            file_type = "f32" if overflows else "f16"
            total += n_differences(asked.llama_cpp, checkpoint, file_type, asked.python, True)
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
