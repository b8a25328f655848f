# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's tokenizer, described as Hugging Face's tokenizer.json describes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from embellama.convert.json_file import read_json_object, read_optional_json_object
from embellama.convert.regular_file import require_regular_file
from embellama.errors import ModelLoadError
from embellama.gguf.tokenizer_check import MAX_VOCABULARY_BYTES

_WORDPIECE_TOKENS = {
    "bos": None,
    "eos": None,
    "unk": "[UNK]",
    "sep": "[SEP]",
    "pad": "[PAD]",
    "cls": "[CLS]",
    "mask": "[MASK]",
}
_OTHER_TOKENS = {
    "bos": "<s>",
    "eos": "</s>",
    "unk": "<unk>",
    "sep": "</s>",
    "pad": "<pad>",
    "cls": "<s>",
    "mask": "<mask>",
}


# BERT's own classes make normalizer, pre-tokenizer and post-processor anew from the settings, and
# take the vocabulary alone from tokenizer.json (models/bert/tokenization_bert.py).
_BERT_CLASSES = frozenset({"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"})
# These are what tokenizer.json says.
_KNOWN_CLASSES = _BERT_CLASSES | {
    *("CamembertTokenizer", "GPT2Tokenizer", "GemmaTokenizer", "LlamaTokenizer"),
    *("MPNetTokenizer", "PreTrainedTokenizer", "Qwen2Tokenizer", "RobertaTokenizer"),
    *("T5Tokenizer", "TokenizersBackend", "XLMRobertaTokenizer"),
}
# The class where no file names one, by config.json's model_type.
_CLASS_OF_TYPE = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer"}


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token that is found in the text before the vocabulary is applied.

    Attributes
    ----------
    content : str
    id : int
    special : bool
    single_word : bool
        It is not found inside a word.
    lstrip, rstrip : bool
        It takes the white space before it, or after it.
    normalized : bool
        It is found, normalised, in the normalised text.
    """

    content: str
    id: int
    special: bool
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False

    @staticmethod
    def from_json(token: dict[str, Any]) -> AddedToken:
        """Read an entry of added_tokens in tokenizer.json."""
        special = bool(token.get("special"))
        return AddedToken(
            content=str(token["content"]),
            id=int(token["id"]),
            special=special,
            single_word=bool(token.get("single_word")),
            lstrip=bool(token.get("lstrip")),
            rstrip=bool(token.get("rstrip")),
            normalized=bool(token.get("normalized", not special)),
        )


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """The content of a tokenizer's files.

    Attributes
    ----------
    path : pathlib.Path
        The file with the vocabulary.
    kind : str
        ``"WordPiece"``, ``"Unigram"`` or ``"BPE"``.
    model : dict
        As in tokenizer.json.
    normalizers, pre_tokenizers, post_processors : tuple of dict
        As in tokenizer.json, in order.
    added_tokens : tuple of AddedToken
    special_tokens : dict of str to str
        ``"bos"``, ``"eos"``, ``"unk"``, ``"sep"``, ``"pad"``, ``"cls"``, ``"mask"`` -> the token,
        where there is one.
    settings : dict
        tokenizer_config.json; empty if there is none.
    """

    path: Path
    kind: str
    model: dict[str, Any]
    normalizers: tuple[dict[str, Any], ...]
    pre_tokenizers: tuple[dict[str, Any], ...]
    post_processors: tuple[dict[str, Any], ...]
    added_tokens: tuple[AddedToken, ...]
    special_tokens: dict[str, str]
    settings: dict[str, Any]

    def error(self, message: str) -> ModelLoadError:
        """Return an error with `message` about the file with the vocabulary."""
        return ModelLoadError(f"{self.path}: {message}")


def _steps(part: dict[str, Any] | None, members: str) -> tuple[dict[str, Any], ...]:
    """Return the steps of a normalizer, pre-tokenizer or post-processor as one flat sequence."""
    if part is None:
        return ()
    if part.get("type") != "Sequence":
        return (part,)
    return tuple(step for member in part[members] for step in _steps(member, members))


def _special_tokens(checkpoint: Path, kind: str, settings: dict[str, Any]) -> dict[str, str]:
    named = read_optional_json_object(checkpoint / "special_tokens_map.json")
    tokens = {}
    for name, default in (_WORDPIECE_TOKENS if kind == "WordPiece" else _OTHER_TOKENS).items():
        for source in (settings, named):
            token = source.get(f"{name}_token")
            if isinstance(token, dict):  # transformers saves a token with its settings
                token = token.get("content")
            if isinstance(token, str):
                tokens[name] = token
                break
        else:
            if default is not None:
                tokens[name] = default
    # BERT has no tokens of its own for the beginning and the end of a text; it uses cls and sep.
    tokens.setdefault("bos", tokens["cls"])
    tokens.setdefault("eos", tokens["sep"])
    return {name: tokens[name] for name in _OTHER_TOKENS}


def _read_tokenizer_json(path: Path, settings: dict[str, Any], class_name: str | None) -> Tokenizer:
    found = read_json_object(path)
    model = found.get("model")
    # Files of old versions of the package tokenizers do not name the types WordPiece and BPE.
    kind = isinstance(model, dict) and model.get(
        "type", "BPE" if "merges" in model else "WordPiece"
    )
    if not isinstance(model, dict) or kind not in ("WordPiece", "Unigram", "BPE"):
        raise ModelLoadError(
            f"{path}: no vocabulary of type WordPiece, Unigram or BPE; other types are not "
            "supported"
        )
    try:
        added_tokens = tuple(
            AddedToken.from_json(token) for token in found.get("added_tokens") or ()
        )
        normalizers = _steps(found.get("normalizer"), "normalizers")
        pre_tokenizers = _steps(found.get("pre_tokenizer"), "pretokenizers")
        post_processors = _steps(found.get("post_processor"), "processors")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelLoadError(f"{path}: malformed ({error!r}); download the file again") from error
    special_tokens = _special_tokens(path.parent, kind, settings)
    if kind == "WordPiece" and class_name in _BERT_CLASSES:
        normalizers = (_bert_normalizer(settings),)
        pre_tokenizers = ({"type": "BertPreTokenizer"},)
        post_processors = (_bert_template(special_tokens),)
    return Tokenizer(
        path=path,
        kind=kind,
        model=model,
        normalizers=normalizers,
        pre_tokenizers=pre_tokenizers,
        post_processors=post_processors,
        added_tokens=added_tokens,
        special_tokens=special_tokens,
        settings=settings,
    )


def _bert_normalizer(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
        "strip_accents": settings.get("strip_accents"),
        "lowercase": settings.get("do_lower_case", True),
    }


def _bert_template(special_tokens: dict[str, str]) -> dict[str, Any]:
    first, last = ({"SpecialToken": {"id": special_tokens[name]}} for name in ("cls", "sep"))
    a, b = ({"Sequence": {"id": name}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [first, a, last],
        "pair": [first, a, last, b, last],
    }


def _saved_tokens(checkpoint: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tokens that were saved with their switches, by their content."""
    named = read_optional_json_object(checkpoint / "special_tokens_map.json")
    decoder = settings.get("added_tokens_decoder")
    by_id = decoder.items() if isinstance(decoder, dict) else ()
    saved = [*named.values(), *settings.values()]
    saved += [{**token, "id": index} for index, token in by_id if isinstance(token, dict)]
    return {
        token["content"]: token
        for token in saved
        if isinstance(token, dict) and isinstance(token.get("content"), str)
    }


def _read_vocab_txt(path: Path, settings: dict[str, Any]) -> Tokenizer:
    """Describe what transformers makes of a vocab.txt (models/bert/tokenization_bert.py)."""
    require_regular_file(path, MAX_VOCABULARY_BYTES)
    try:
        with path.open(encoding="utf-8") as file:
            tokens = [line.rstrip("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path}: can't be read ({error}); download it again") from error
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if token in vocabulary:
            raise ModelLoadError(
                f"{path}: the token {token!r} is in lines {vocabulary[token] + 1} and {index + 1}; "
                "a vocabulary names each token once, download the file again"
            )
        vocabulary[token] = index
    special_tokens = _special_tokens(path.parent, "WordPiece", settings)
    added = {token: vocabulary[token] for token in special_tokens.values() if token in vocabulary}
    for token, index in read_optional_json_object(path.parent / "added_tokens.json").items():
        if isinstance(index, bool) or not isinstance(index, int):
            raise ModelLoadError(f"{path.parent}: added_tokens.json must map tokens to ids")
        added.setdefault(token, index)
    saved = _saved_tokens(path.parent, settings)
    for token, switches in saved.items():
        if "id" in switches:
            try:
                added.setdefault(token, int(switches["id"]))
            except (TypeError, ValueError) as error:
                raise ModelLoadError(
                    f"{path.parent}: added_tokens_decoder in tokenizer_config.json must map ids to "
                    "tokens"
                ) from error
    return Tokenizer(
        path=path,
        kind="WordPiece",
        model={"type": "WordPiece", "vocab": vocabulary, "unk_token": special_tokens["unk"]},
        normalizers=(_bert_normalizer(settings),),
        pre_tokenizers=({"type": "BertPreTokenizer"},),
        post_processors=(_bert_template(special_tokens),),
        added_tokens=tuple(
            AddedToken.from_json(
                {"special": token in special_tokens.values()}
                | saved.get(token, {})
                | {"content": token, "id": index}
            )
            for token, index in added.items()
        ),
        special_tokens=special_tokens,
        settings=settings,
    )


def _class_name(checkpoint: Path, settings: dict[str, Any]) -> str | None:
    """Return the class that transformers would use, by its name since version 5.

    ModelLoadError if it does what no file says.
    """
    path = checkpoint / "tokenizer_config.json"
    code = settings.get("auto_map")
    if isinstance(code, dict) and code.get("AutoTokenizer"):
        raise ModelLoadError(
            f"{path}: the tokenizer is code in the checkpoint (auto_map), which is never run; this "
            "checkpoint can't become a GGUF"
        )
    name = settings.get("tokenizer_class")
    if name is None:
        config = read_optional_json_object(checkpoint / "config.json")
        name = config.get("tokenizer_class") or _CLASS_OF_TYPE.get(str(config.get("model_type")))
    if name is None:
        return None
    name = str(name).removesuffix("Fast")
    if name not in _KNOWN_CLASSES:
        raise ModelLoadError(
            f"{path}: tokenizer_class is {name}, whose rules are not those of tokenizer.json or "
            "vocab.txt, or are not known to be. If tokenizer.json does all that the class does, "
            "name PreTrainedTokenizerFast in a copy of the checkpoint"
        )
    return name


def read_tokenizer(checkpoint: Path, *, lower_cased: bool = False) -> Tokenizer:
    """Read tokenizer.json, or vocab.txt if there is none; ModelLoadError if neither is usable.

    Parameters
    ----------
    checkpoint : pathlib.Path
    lower_cased : bool, optional
        Whether texts are lower-cased first, as sentence-transformers' do_lower_case has it.

    Returns
    -------
    Tokenizer
    """
    settings = read_optional_json_object(checkpoint / "tokenizer_config.json")
    class_name = _class_name(checkpoint, settings)
    tokenizer_json = checkpoint / "tokenizer.json"
    vocab_txt = checkpoint / "vocab.txt"
    if tokenizer_json.is_file():
        tokenizer = _read_tokenizer_json(tokenizer_json, settings, class_name)
    elif vocab_txt.is_file() and (class_name is None or class_name in _BERT_CLASSES):
        tokenizer = _read_vocab_txt(vocab_txt, settings)
    else:
        raise ModelLoadError(
            f"{checkpoint}: neither tokenizer.json nor vocab.txt; download the checkpoint again, "
            "or make the file: "
            "AutoTokenizer.from_pretrained(directory).save_pretrained(directory) in transformers"
        )
    if lower_cased:
        lowercase = {"type": "Lowercase"}
        tokenizer = dataclasses.replace(tokenizer, normalizers=(lowercase, *tokenizer.normalizers))
    return tokenizer
