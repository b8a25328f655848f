# SPDX-License-Identifier: Apache-2.0
"""What a stranger may do to a checkpoint: to its JSON files, its weights, its vocabulary, its card.

A checkpoint is a mapping of file names to contents here, which are bytes or a :class:`Special`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Special:
    """A file that is none: a symbolic link, a pipe or a folder."""

    kind: str
    target: str = ""


Files = dict[str, bytes | Special]
Damage = Callable[[random.Random, Files, list[str]], None]

_NUMBERS: list[Any] = [0, -1, 1, 2, 3, 5, 31, 32, 33, 64, 100, 512, 513, 65536, 2**31 - 1, 2**31]
_NUMBERS += [2**32, 2**53, 2**63, 2**64, -(2**63), 10**30, 0.5, 1.0, -0.5, 1e-320, 1e308, 32.0]
_VALUES: list[Any] = [
    *_NUMBERS,
    None,
    True,
    False,
    "",
    "a",
    "32",
    "\0",
    "a\0b",
    "\u2581",
    "x" * 3000,
]
_VALUES += ["../../etc/passwd", "/etc/passwd", ".", "..", "a/b", "\ud800", "\U0001f600", "[CLS]"]
_VALUES += [[], {}, [[]], {"": None}, [None], ["a", 1], {"type": "Sequence"}, {"id": 0}]
# What json.dumps does not write.
_LITERALS = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"9" * 400,
    b"9" * 5000,
    b'"\\ud800"',
]
_LITERALS += [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"[]" * 2]
_LITERALS += [b"[" + b"[]," * 30_000 + b"[]]", b'"' + b"\\u0041" * 2000 + b'"', b'"\xff\xfe"', b""]
_CONFIG_KEYS = """
architectures vocab_size max_position_embeddings num_hidden_layers hidden_size num_attention_heads
intermediate_size hidden_act type_vocab_size layer_norm_eps id2label num_labels pad_token_id dim
n_layers n_heads hidden_dim activation position_embedding_type is_decoder add_cross_attention
_name_or_path model_type label2id torch_dtype sliding_window
"""
_ARCHITECTURES = """
BertModel BertForMaskedLM BertForSequenceClassification XLMRobertaModel RobertaModel
XLMRobertaForSequenceClassification RobertaForSequenceClassification DistilBertModel
DistilBertForMaskedLM DistilBertForSequenceClassification LlamaForCausalLM
"""
_CARDS = [
    b"---\nlicense: mit\ntags:\n- a\n- b\nlanguage: en\n---\n# A card",
    b"---\ntags: [1, 'a', [2], {b: 3}, null, 1.5, 2020-01-01]\n---\n",
    b"---\nname: {a: b}\nlicense: [1, 2]\nbase_model: [1, null, {name: 3}, {name: [a]}]\n---\n",
    b"---\nname: 'a\\0b'\nlicense: \"\\0\"\nversion: .nan\nauthor: 1.5\n---\n",
    b"---\nbase_model: [" + b"a/b-7b-v1-chat," * 2000 + b"a]\n---\n",
    b"---\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 10)
    )
    + b"tags: *a9\nlanguages: *a9\ndescription: *a9\nname: a\n---\n",
    b"---\na: &a [*a]\ntags: *a\n---\n",
    b"---\na: " + b"[" * 5000 + b"]" * 5000 + b"\n---\n",
    b"---\nname: " + b"9" * 6000 + b"\n---\n",
    b"---\nversion: " + b"1:" * 20_000 + b"1\n---\n",
    b"---\nname: !!python/object/apply:os.system ['touch pickled']\n---\n",
    b"---\n\xff\xfe\n---\n",
    b"---\n" + b"- x\n" * 20_000 + b"---\n",
    b"---",
    b'---\nname: "\\ud800"\n---\n',
    b"---\nname: \n  a\n b: - c\n---\n",
    b"---\ndatasets:\n- {name: a, doi: 7}\n- a/b\n- http://huggingface.co/a\nlanguage: [no]\n---\n",
    b"---\ntags: [[a], [b]]\n---\n",
    b'---\nname: "a\\0b"\n---\n',
]
_FILES = """
config.json tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt
modules.json 1_Pooling/config.json model.safetensors model.safetensors.index.json README.md
generation_config.json pytorch_model.bin
"""


class _Bomb:
    def __reduce__(self) -> Any:
        return (os.system, ("touch pickled",))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All (container, key) of a JSON document."""
    found: list[tuple[Any, Any]] = []
    open_ = [value]
    while open_:
        container = open_.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                open_.append(container[key])
    return found


def _json_files(files: Files) -> list[str]:
    return [name for name, content in files.items() if name.endswith(".json") and content]


def _parsed(files: Files, name: str) -> Any:
    content = files.get(name)
    if not isinstance(content, bytes):
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def change_json(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Put, remove or exchange a value somewhere in a JSON file."""
    name = rng.choice(_json_files(files) or ["config.json"])
    document = _parsed(files, name)
    if not isinstance(document, (dict, list)) or not _places(document):
        return
    container, key = rng.choice(_places(document))
    action = rng.choice(["replace", "replace", "replace", "delete", "wrap", "swap", "number"])
    notes.append(f"{name}: {action} {str(key)[:60]!r}")
    if action == "delete":
        del container[key]
    elif action == "wrap":
        container[key] = rng.choice([[container[key]], {"content": container[key]}])
    elif action == "swap":
        other, place = rng.choice(_places(document))
        other[place] = json.loads(json.dumps(container[key]))
    elif action == "number" and isinstance(container[key], int):
        container[key] = container[key] + rng.choice([-2, -1, 1, 2, container[key]])
    else:
        container[key] = rng.choice(_VALUES)
        notes.append(repr(container[key])[:60])
    files[name] = json.dumps(document).encode("utf-8", "surrogatepass")


def change_config(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Set what the converter reads of config.json."""
    document = _parsed(files, "config.json")
    if not isinstance(document, dict):
        return
    key = rng.choice(_CONFIG_KEYS.split())
    value = rng.choice(_VALUES)
    if key == "architectures" and rng.random() < 0.7:
        value = [rng.choice(_ARCHITECTURES.split())]
    elif key in ("id2label", "label2id") and rng.random() < 0.7:
        value = {
            str(i): rng.choice([f"label {i}", "a", "", "\0"])
            for i in range(rng.choice([1, 2, 3, 99]))
        }
    elif isinstance(document.get(key), int) and rng.random() < 0.6:
        value = max(0, document[key] + rng.choice([-1, 1, document[key], -document[key] // 2]))
    notes.append(f"config {key}={str(value)[:60]!r}")
    document[key] = value
    files["config.json"] = json.dumps(document).encode("utf-8", "surrogatepass")


def change_json_text(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Write JSON that no program writes."""
    name = rng.choice(_json_files(files) or ["config.json"])
    content = files.get(name)
    if not isinstance(content, bytes) or len(content) < 4:
        return
    action = rng.choice(["literal", "literal", "cut", "twice", "key", "encoding", "bytes"])
    notes.append(f"{name}: text {action}")
    if action == "literal":
        document = _parsed(files, name)
        if not isinstance(document, (dict, list)) or not _places(document):
            return
        container, key = rng.choice(_places(document))
        container[key] = "@@@"
        literal = rng.choice(_LITERALS)
        notes.append(f"{str(key)[:40]!r}: {literal[:20]!r}")
        files[name] = json.dumps(document).encode().replace(b'"@@@"', literal)
    elif action == "cut":
        files[name] = content[: rng.randrange(len(content))]
    elif action == "twice":
        files[name] = content + content
    elif action == "key":
        # The first name of the document again, with another value.
        text = content.decode("utf-8", "replace")
        first = text.find('"')
        end = text.find('"', first + 1)
        again = f"{{{text[first : end + 1]}: {rng.choice(['null', '7', '[]'])}, "
        files[name] = text.replace("{", again, 1).encode()
    elif action == "encoding":
        text = content.decode("utf-8", "replace")
        files[name] = text.encode(rng.choice(["utf-8-sig", "utf-16", "utf-32", "cp037"]), "replace")
    else:
        damaged = bytearray(content)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        files[name] = bytes(damaged)


def _weight_file(rng: random.Random, files: Files) -> tuple[str, dict[str, Any], bytes] | None:
    names = [name for name in files if name.endswith(".safetensors")]
    name = rng.choice(names or ["model.safetensors"])
    content = files.get(name)
    if not isinstance(content, bytes) or len(content) < 8:
        return None
    n_bytes = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + n_bytes])
    except (ValueError, RecursionError):
        return None
    return (name, header, content[8 + n_bytes :]) if isinstance(header, dict) else None


def _safetensors(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def change_weights(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Change the header of a safetensors file, or what it describes."""
    found = _weight_file(rng, files)
    if found is None:
        return
    name, header, data = found
    tensors = [key for key, entry in header.items() if isinstance(entry, dict) and "shape" in entry]
    if not tensors:
        return
    key = rng.choice(tensors)
    entry = header[key]
    action = rng.choice(
        "dtype shape offsets delete rename repeat values metadata extra cut".split()
    )
    notes.append(f"{name}: {action} {key}")
    text = None
    if action == "dtype":
        entry["dtype"] = rng.choice(["F64", "F16", "BF16", "I8", "I64", "BOOL", "F8_E4M3", "X", 7])
        if rng.random() < 0.5 and entry["dtype"] in ("F16", "BF16"):
            entry["shape"] = [*entry["shape"][:-1], 2 * entry["shape"][-1]]
    elif action == "shape":
        shapes = [[], [0], [1], [*entry["shape"], 1], entry["shape"][::-1], [2**63], [2**32, 2**32]]
        shapes += [[-1], [1.5], "a", None, [rng.choice(_NUMBERS[:16]) for _ in entry["shape"]]]
        entry["shape"] = rng.choice(shapes)
    elif action == "offsets":
        begin, end = entry["data_offsets"]
        offsets = [
            [0, 0],
            [end, begin],
            [begin, end + 4],
            [begin + 4, end],
            [begin, 2**63],
            [-4, 0],
        ]
        offsets += [
            [begin],
            "a",
            [len(data), len(data) + 4],
            [1e3, 2e3],
            header[tensors[0]]["data_offsets"],
        ]
        entry["data_offsets"] = rng.choice(offsets)
    elif action == "delete":
        del header[key]
    elif action == "rename":
        new = rng.choice(
            [
                key + "x",
                "bert." + key,
                "",
                "lm_head.x",
                "\0",
                "pooler.x",
                tensors[0],
                "__metadata__",
            ]
        )
        header[new] = header.pop(key)
    elif action == "repeat":
        text = (
            json.dumps(header).encode()[:-1]
            + b", "
            + json.dumps({key: header[tensors[0]]}).encode()[1:]
        )
    elif action == "values":
        begin, end = entry.get("data_offsets", [0, 0])
        values = np.frombuffer(data[begin : begin + (end - begin) // 4 * 4], np.float32).copy()
        if values.size:
            values[rng.randrange(values.size)] = rng.choice(
                [np.nan, np.inf, 1e30, 70000, 1e-42, 3e38]
            )
            data = data[:begin] + values.tobytes() + data[begin + 4 * values.size :]
    elif action == "metadata":
        header["__metadata__"] = rng.choice(
            [{"format": "pt"}, {"a": 1}, [], "x", {"x": "y" * 100_000}]
        )
    elif action == "extra":
        header["extra"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
        data += bytes(4)
    else:
        data = data[: rng.randrange(len(data) + 1)] + bytes(rng.choice([0, 0, 4]))
    content = _safetensors(json.dumps(header).encode() if text is None else text, data)
    if rng.random() < 0.1:
        length = rng.choice([0, 1, 7, len(content), 2**31, 2**63, 2**64 - 1, 100_000_001])
        content = length.to_bytes(8, "little") + content[8:]
        notes.append(f"header length {length}")
    files[name] = content


def change_lines(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Change vocab.txt, which replaces tokenizer.json."""
    content = files.get("vocab.txt")
    if not isinstance(content, bytes):
        document = _parsed(files, "tokenizer.json")
        if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
            return
        vocabulary = document["model"].get("vocab")
        if not isinstance(vocabulary, dict):
            return
        content = "\n".join(vocabulary).encode("utf-8", "surrogatepass") + b"\n"
        files.pop("tokenizer.json")
    lines = content.split(b"\n")
    index = rng.randrange(len(lines))
    action = rng.choice(["none", "repeat", "odd", "delete", "more", "cut", "long"])
    notes.append(f"vocab.txt {action} {index}")
    if action == "repeat":
        lines[index] = lines[0]
    elif action == "odd":
        lines[index] = rng.choice(
            [b"", b"\0", b"a\0b", b"\xff", b"##", b"\xe2\x96\x81", b" ", b"a\rb", b"\x85"]
        )
    elif action == "delete":
        del lines[index]
    elif action == "more":
        lines += [b"t%d" % number for number in range(rng.choice([1, 1000, 50_000]))]
    elif action == "long":
        lines[index] = b"x" * rng.choice([512, 513, 5000, 1_000_000])
    content = b"\n".join(lines)
    files["vocab.txt"] = content[: rng.randrange(len(content))] if action == "cut" else content


def change_names(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Change what names other files: the index of the weights and the modules."""
    target = rng.choice(
        ["../../etc/passwd", "/etc/passwd", "..", "", ".", "a\0b", "x" * 5000, "model.safetensors"]
    )
    target = rng.choice(
        [target, "1_Pooling", "../" * 9 + "etc/passwd", "sub/model.safetensors", "\ud800", None, 3]
    )
    if rng.random() < 0.5:
        weight_map = _parsed(files, "model.safetensors.index.json")
        names = (
            list(weight_map["weight_map"])
            if isinstance(weight_map, dict) and isinstance(weight_map.get("weight_map"), dict)
            else ["embeddings.word_embeddings.weight"]
        )
        mapping = dict.fromkeys(names, "model.safetensors")
        mapping[rng.choice(names)] = target
        document: Any = {"weight_map": mapping}
        name = "model.safetensors.index.json"
    else:
        kind = rng.choice(
            [
                "sentence_transformers.models.Pooling",
                "Pooling",
                "os.system",
                "Dense",
                "",
                "a.b.Transformer",
            ]
        )
        document = [{"idx": 0, "name": "0", "path": target, "type": kind}]
        name = "modules.json"
    notes.append(f"{name}: {str(target)[:40]!r}")
    files[name] = json.dumps(document).encode()


def change_files(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Put something else in a file's place."""
    name = rng.choice(_FILES.split())
    if rng.random() < 0.5:
        name = rng.choice(list(files))
    kinds: list[bytes | Special | None] = [
        None,
        None,
        b"",
        b"\0" * 64,
        b"null",
        b"[]",
        b"{}",
        b'"a"',
        b"7",
    ]
    kinds += [
        Special("link", target) for target in ("/dev/zero", "/dev/full", "/etc/passwd", name, "..")
    ]
    kinds += [Special("link", "nothing"), Special("pipe"), Special("folder"), pickle.dumps(_Bomb())]
    kinds += [Special("link", other) for other in list(files)[:2]]
    content = rng.choice(kinds)
    notes.append(f"{name} becomes {str(content)[:60]}")
    if content is None:
        files.pop(name, None)
    else:
        files[name] = content


def change_card(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Put a model card with odd metadata there, or generation parameters."""
    if rng.random() < 0.2:
        values = {key: rng.choice(_VALUES) for key in ("top_k", "top_p", "temperature", "min_p")}
        files["generation_config.json"] = json.dumps(values).encode("utf-8", "surrogatepass")
        notes.append(f"generation_config {str(values)[:80]}")
        return
    index = rng.randrange(len(_CARDS))
    notes.append(f"card {index}")
    files["README.md"] = _CARDS[index]


def use_pickle(rng: random.Random, files: Files, notes: list[str]) -> None:
    """Offer weights as a pickle, which runs a program when it is loaded."""
    notes.append("pickle")
    files["pytorch_model.bin"] = pickle.dumps(_Bomb())
    if rng.random() < 0.5:
        files.pop("model.safetensors", None)


DAMAGES: list[Damage] = [
    *(change_json for _ in range(5)),
    *(change_config for _ in range(4)),
    *(change_json_text for _ in range(4)),
    *(change_weights for _ in range(5)),
    *(change_card for _ in range(2)),
    *(change_files for _ in range(3)),
    change_lines,
    change_names,
    use_pickle,
]


def write(files: Files, folder: Path) -> int:
    """Write a checkpoint; return the bytes of its files."""
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content.kind == "link":
            path.symlink_to(content.target)
        elif content.kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
    return sum(len(content) for content in files.values() if isinstance(content, bytes))
