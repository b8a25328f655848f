# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's vocabulary in llama.cpp's form."""

from __future__ import annotations

import base64
import dataclasses
import enum
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from embellama.convert.special_tokens import added_special_tokens, special_token_ids
from embellama.convert.tokenizer import AddedToken, Tokenizer
from embellama.convert.wordpiece import pre_tokenizer_name

if TYPE_CHECKING:
    from gguf import GGUFWriter


_LARGEST_SCORE = 1e30  # far beyond any log-probability, and fits a float32


class _Type(enum.IntEnum):
    """enum llama_token_type, llama.h."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The part of a GGUF's metadata that describes a tokenizer.

    Attributes
    ----------
    model, pre : str
        llama.cpp's names of the tokenizer and of its pre-tokenizer.
    tokens : list of str
    types : list of int
        The ``llama_token_type`` of each token.
    scores : list of float
        Unigram's log-probabilities; empty for other tokenizers.
    merges : list of str
        BPE's merges; empty for other tokenizers.
    charsmap : bytes
        SentencePiece's normalisation; empty if there is none.
    ids : dict of str to int
        Keys for special tokens and their ids.
    switches : dict of str to bool or str
        Keys for what is done to a text.
    added_tokens : tuple of AddedToken
        Special ones first.
    in_vocabulary : list of bool
        Which of the added tokens the vocabulary has, too.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]
    charsmap: bytes
    ids: dict[str, int]
    switches: dict[str, bool | str]
    added_tokens: tuple[AddedToken, ...] = ()
    in_vocabulary: list[bool] = dataclasses.field(default_factory=list)

    def write(self, writer: GGUFWriter) -> None:
        """Add the metadata to a GGUF file."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.charsmap:
            writer.add_precompiled_charsmap(self.charsmap)
        for key, index in self.ids.items():
            writer.add_uint32(key, index)
        for key, switch in self.switches.items():
            if isinstance(switch, str):
                writer.add_string(key, switch)
            else:
                writer.add_bool(key, switch)
        self._write_added_tokens(writer)

    def _write_added_tokens(self, writer: GGUFWriter) -> None:
        added = self.added_tokens
        writer.add_array("embellama.added_tokens.ids", [token.id for token in added])
        for name, values in (
            ("single_word", [token.single_word for token in added]),
            ("lstrip", [token.lstrip for token in added]),
            ("rstrip", [token.rstrip for token in added]),
            ("normalized", [token.normalized for token in added]),
            ("in_vocabulary", self.in_vocabulary),
        ):
            writer.add_array(f"embellama.added_tokens.{name}", values)


def _is_control(token: str) -> bool:
    """Whether llama.cpp's converter treats a token as special (does_token_look_special)."""
    return (
        token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (token.startswith("<|") and token.endswith("|>"))
        or (token.startswith("<\uff5c") and token.endswith("\uff5c>"))
        or (token.startswith("<unused") and token.endswith(">"))
    )


def _ids_to_tokens(tokenizer: Tokenizer, n_tokens: int) -> dict[int, str]:
    """Return all tokens by id; ModelLoadError if two share an id or one has no embedding."""
    vocabulary = tokenizer.model.get("vocab")
    try:
        if tokenizer.kind == "Unigram":
            pairs = [(str(entry[0]), index) for index, entry in enumerate(vocabulary or ())]
        else:
            pairs = [(token, int(index)) for token, index in (vocabulary or {}).items()]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise tokenizer.error(f"malformed vocabulary ({error!r}); download it again") from error
    if not pairs:
        raise tokenizer.error("no vocabulary; download the file again")
    pairs += [(token.content, token.id) for token in tokenizer.added_tokens]
    tokens: dict[int, str] = {}
    ids: dict[str, int] = {}
    for token, index in pairs:
        if tokens.setdefault(index, token) != token or ids.setdefault(token, index) != index:
            raise tokenizer.error(
                f"the token {token!r} with the id {index} is there twice, or shares its id with "
                "another; download the file again"
            )
        if not 0 <= index < n_tokens:
            raise tokenizer.error(
                f"the token {token!r} has the id {index}, but the model has embeddings for "
                f"{n_tokens} tokens only (vocab_size in config.json); the files are of different "
                "checkpoints, download them again"
            )
    return tokens


def _check_distinct(tokenizer: Tokenizer, tokens: list[str]) -> None:
    """Refuse duplicate tokens, on which llama.cpp aborts (llama-vocab.cpp)."""
    ids: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if token and ids.setdefault(token, index) != index:
            raise tokenizer.error(
                f"the tokens {ids[token]} and {index} are both {token!r} to llama.cpp, which needs "
                "them to differ; rename one of them"
            )


def _tokens_and_types(
    tokenizer: Tokenizer, known: Mapping[int, str], n_tokens: int
) -> tuple[list[str], list[int]]:
    """List tokens and types; ids without a token get one that matches nothing."""
    special = {token.id: token.special for token in tokenizer.added_tokens}
    tokens: list[str] = []
    types: list[int] = []
    for index in range(n_tokens):
        token = known.get(index)
        if token is None:
            token, kind = f"[PAD{index}]", _Type.UNUSED
        elif index not in special:
            kind = _Type.NORMAL
        elif special[index] or _is_control(token):
            kind = _Type.CONTROL
        else:
            kind = _Type.USER_DEFINED
        tokens.append(token)
        types.append(kind)
    return tokens, types


def _refuse_switches(tokenizer: Tokenizer, part: Mapping[str, Any], **supported: Any) -> None:
    """Refuse a part of tokenizer.json whose switches are not `supported`, where they are there."""
    for name, value in supported.items():
        found = part.get(name, value)
        if found is not None and found != value:
            raise tokenizer.error(
                f"{name} is {found!r}, where llama.cpp has {value!r}, so that it would split texts "
                "in another way; this checkpoint can't become a GGUF"
            )


def _normalizer_flags(tokenizer: Tokenizer) -> dict[str, bool]:
    """Return whether WordPiece's text is lower-cased and loses its accents.

    llama.cpp assumes both if a file says nothing, and uses the first flag if the second is
    missing.
    """
    kinds = [step.get("type") for step in tokenizer.normalizers]
    for kind in kinds:
        if kind not in ("BertNormalizer", "Lowercase", "NFC", "NFD", "StripAccents"):
            raise tokenizer.error(
                f"a normalizer of type {kind}, which llama.cpp doesn't have for WordPiece, so that "
                "it would split texts in another way; this checkpoint can't become a GGUF"
            )
    if kinds.count("BertNormalizer") != 1:
        raise tokenizer.error(
            "no BertNormalizer, or several, but llama.cpp always cleans texts and splits Chinese "
            "characters as one does; this checkpoint can't become a GGUF"
        )
    bert = tokenizer.normalizers[kinds.index("BertNormalizer")]
    _refuse_switches(tokenizer, bert, clean_text=True, handle_chinese_chars=True)
    lowercase = bool(bert.get("lowercase", True))
    strip_accents = bert.get("strip_accents")
    strips = lowercase if strip_accents is None else bool(strip_accents)
    if "StripAccents" in kinds:
        # It removes marks that stand alone, and leaves those that are part of a character.
        if not strips and "NFD" not in kinds[: kinds.index("StripAccents")]:
            raise tokenizer.error(
                "StripAccents without NFD before it, which llama.cpp doesn't have; this checkpoint "
                "can't become a GGUF"
            )
        strip_accents = strips = True
    if not strips and {"NFC", "NFD"} & set(kinds):
        raise tokenizer.error(
            "a normalizer of type NFC or NFD, which llama.cpp has only where accents are removed; "
            "this checkpoint can't become a GGUF"
        )
    if "Lowercase" in kinds and not lowercase:
        lowercase, strip_accents = True, strips
    if strip_accents is None:
        return {"lowercase": lowercase}
    return {"lowercase": lowercase, "strip_accents": bool(strip_accents)}


def _wordpiece(tokenizer: Tokenizer, n_tokens: int) -> Vocabulary:
    pre_tokenizers = [step.get("type") for step in tokenizer.pre_tokenizers]
    if pre_tokenizers != ["BertPreTokenizer"]:
        raise tokenizer.error(
            f"the pre-tokenizer is {pre_tokenizers}; llama.cpp has only BertPreTokenizer for "
            "WordPiece; this checkpoint can't become a GGUF"
        )
    prefix = tokenizer.model.get("continuing_subword_prefix", "##")
    if prefix != "##":
        raise tokenizer.error(f"llama.cpp knows pieces that begin with '##' only, not {prefix!r}")
    _refuse_switches(tokenizer, tokenizer.model, max_input_chars_per_word=100)
    normalizer = _normalizer_flags(tokenizer)
    known = _ids_to_tokens(tokenizer, n_tokens)
    ids = {token: index for index, token in known.items()}
    special_ids = special_token_ids(tokenizer, ids)
    tokens, types = _tokens_and_types(tokenizer, known, n_tokens)
    # llama.cpp marks pieces that begin a word; WordPiece marks pieces that continue one.
    tokens = [
        token
        if kind == _Type.CONTROL
        else token[2:]
        if token.startswith("##") and kind != _Type.USER_DEFINED
        else "\u2581" + token
        for token, kind in zip(tokens, types, strict=True)
    ]
    return Vocabulary(
        model="bert",
        pre=pre_tokenizer_name(
            ids,
            lowercase=normalizer["lowercase"],
            strip_accents=normalizer.get("strip_accents", normalizer["lowercase"]),
            first=special_ids["tokenizer.ggml.bos_token_id"],
            last=special_ids["tokenizer.ggml.eos_token_id"],
            unknown=special_ids["tokenizer.ggml.unknown_token_id"],
        ),
        tokens=tokens,
        types=types,
        scores=[],
        merges=[],
        charsmap=b"",
        ids=special_ids,
        switches={f"tokenizer.ggml.normalizer.{name}": flag for name, flag in normalizer.items()},
    )


def _prepend_scheme(metaspace: Mapping[str, Any]) -> str:
    """Return where Metaspace puts a word mark: ``"always"``, ``"first"`` or ``"never"``."""
    default = "always" if metaspace.get("add_prefix_space", True) else "never"
    return str(metaspace.get("prepend_scheme") or default)


# In the order in which llama.cpp takes them.
_UNIGRAM_NORMALIZERS = ("Precompiled", "Strip", "Replace")


def _spaces(tokenizer: Tokenizer) -> dict[str, bool | str]:
    """Return what is done to the white space of Unigram's texts."""
    steps = {str(step.get("type")): step for step in tokenizer.normalizers}
    for kind in steps:
        if kind not in _UNIGRAM_NORMALIZERS:
            raise tokenizer.error(
                f"a normalizer of type {kind}, which llama.cpp doesn't have for Unigram, so that "
                "it would split texts in another way; this checkpoint can't become a GGUF"
            )
    *before, metaspace = tokenizer.pre_tokenizers or ({},)
    splits_words = [step.get("type") for step in before] == ["WhitespaceSplit"]
    scheme = _prepend_scheme(metaspace)
    if (
        (before and not splits_words)
        or metaspace.get("type") != "Metaspace"
        or metaspace.get("replacement", "\u2581") != "\u2581"
        or scheme not in ("always", "first", "never")
    ):
        raise tokenizer.error(
            "the pre-tokenizer is not SentencePiece's (Metaspace), the only one that llama.cpp has "
            "for Unigram; this checkpoint can't become a GGUF"
        )
    strip, replace = steps.get("Strip", {}), steps.get("Replace", {})
    in_order = [kind for kind in _UNIGRAM_NORMALIZERS if kind in steps]
    merges = replace.get("pattern"), replace.get("content")
    if [step.get("type") for step in tokenizer.normalizers] != in_order or (
        replace and merges not in [({"Regex": " {2,}"}, one) for one in (" ", "\u2581")]
    ):
        raise tokenizer.error(
            "the normalizers are not SentencePiece's (Precompiled, Strip, Replace of several "
            "spaces by one), the only ones that llama.cpp has for Unigram; this checkpoint can't "
            "become a GGUF"
        )
    return {
        "tokenizer.ggml.add_space_prefix": scheme != "never",
        "tokenizer.ggml.remove_extra_whitespaces": bool(replace) or splits_words,
        "tokenizer.ggml.strip_trailing_spaces": bool(strip and strip.get("strip_right", True)),
        "embellama.spaces.strip_left": bool(strip and strip.get("strip_left", True)),
        "embellama.spaces.merged": str(replace.get("content", "")),
        "embellama.spaces.split_words": splits_words,
        "embellama.spaces.split_marks": bool(metaspace.get("split", True)),
        "embellama.spaces.prepend": scheme,
    }


def _unigram(tokenizer: Tokenizer, n_tokens: int) -> Vocabulary:
    _refuse_switches(tokenizer, tokenizer.model, byte_fallback=False)
    charsmap = b""
    switches = _spaces(tokenizer)
    for step in tokenizer.normalizers:
        if step["type"] == "Precompiled":
            try:
                charsmap = base64.b64decode(step.get("precompiled_charsmap") or "", validate=True)
            except (TypeError, ValueError) as error:
                raise tokenizer.error(
                    f"precompiled_charsmap is not base64 ({error}); download the file again"
                ) from error
    known = _ids_to_tokens(tokenizer, n_tokens)
    ids = {token: index for index, token in known.items()}
    special_ids = special_token_ids(tokenizer, ids)
    tokens, types = _tokens_and_types(tokenizer, known, n_tokens)
    types[special_ids["tokenizer.ggml.unknown_token_id"]] = _Type.UNKNOWN
    try:
        scores = [float(entry[1]) for entry in tokenizer.model["vocab"]]
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise tokenizer.error(f"malformed vocabulary ({error!r}); download it again") from error
    if not all(abs(score) <= _LARGEST_SCORE for score in scores):
        raise tokenizer.error("a token's log-probability is not a number; download the file again")
    # Tokens that Unigram does not know are never chosen.
    scores += [-10000.0] * (n_tokens - len(scores))
    return Vocabulary(
        model="t5",
        pre="default",
        tokens=tokens,
        types=types,
        scores=scores,
        merges=[],
        charsmap=charsmap,
        ids=special_ids,
        switches=switches,
    )


def _merges(tokenizer: Tokenizer) -> list[str]:
    merges = tokenizer.model.get("merges")
    if isinstance(merges, list) and merges:
        if all(isinstance(merge, str) for merge in merges):
            return merges
        if all(isinstance(merge, list) and len(merge) == 2 for merge in merges):
            # llama.cpp would confuse a space in a piece with the space between the pieces
            # (https://github.com/ggml-org/llama.cpp/issues/9692).
            return [
                " ".join(str(piece).replace(" ", "\u0120") for piece in merge) for merge in merges
            ]
    raise tokenizer.error("BPE without a list of merges; download the file again")


# Expressions that split a text before byte-level BPE.
_GPT2 = "GPT-2's, which ByteLevel has itself"
_LETTERS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3, _QWEN2 = _LETTERS % "{1,3}", _LETTERS % ""
# Whether the text is composed first (NFC), the expression, and whether a whole word that is a token
# stays one (ignore_merges) -> llama.cpp's name for them.
_BYTE_LEVEL = {
    (False, _GPT2, False): "roberta-bpe",
    (True, _GPT2, False): "modern-bert",
    (True, _QWEN2, False): "qwen2",
    (False, _LLAMA3, True): "llama-bpe",
}


def _expression(tokenizer: Tokenizer) -> str | None:
    """Return the expression that splits a text before byte-level BPE; None for other steps."""
    *splits, last = tokenizer.pre_tokenizers or ({},)
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True):
        return None
    if last.get("use_regex", True):
        return None if splits else _GPT2
    if len(splits) != 1 or splits[0].get("type") != "Split":
        return None
    if splits[0].get("behavior") != "Isolated" or splits[0].get("invert"):
        return None
    pattern = splits[0].get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    return expression if isinstance(expression, str) else None


def _bpe(tokenizer: Tokenizer, n_tokens: int) -> Vocabulary:
    if tokenizer.model.get("byte_fallback"):
        return _sentencepiece_bpe(tokenizer, n_tokens)
    _refuse_switches(
        tokenizer,
        tokenizer.model,
        dropout=0.0,
        byte_fallback=False,
        continuing_subword_prefix="",
        end_of_word_suffix="",
    )
    normalizers = [step.get("type") for step in tokenizer.normalizers]
    expression = _expression(tokenizer)
    ignore_merges = tokenizer.model.get("ignore_merges", False)
    pre = None
    if normalizers in ([], ["NFC"]) and expression is not None:
        pre = _BYTE_LEVEL.get((bool(normalizers), expression, bool(ignore_merges)))
    if pre is None:
        raise tokenizer.error(
            "normalizer, pre-tokenizer and ignore_merges together are not those of RoBERTa, "
            "ModernBERT, Qwen2 or Llama 3, the only BPE that is supported; this checkpoint can't "
            "become a GGUF"
        )
    for token in tokenizer.added_tokens:
        if normalizers and not unicodedata.is_normalized("NFC", token.content):
            raise tokenizer.error(
                f"the added token {token.content!r} is not in NFC, to which llama.cpp's texts are "
                "brought before it is looked for; this checkpoint can't become a GGUF"
            )
    known = _ids_to_tokens(tokenizer, n_tokens)
    ids = {token: index for index, token in known.items()}
    tokens, types = _tokens_and_types(tokenizer, known, n_tokens)
    return Vocabulary(
        model="gpt2",
        pre=pre,
        tokens=tokens,
        types=types,
        scores=[],
        merges=_merges(tokenizer),
        charsmap=b"",
        ids=special_token_ids(tokenizer, ids),
        switches={},
    )


_TAB = "<0x09>"
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))


# Gemma's splits at spaces, of which its normalizer leaves none.
_GEMMA_SPLIT = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}


def _bpe_spaces(tokenizer: Tokenizer) -> dict[str, bool | str] | None:
    """Return where SentencePiece's BPE puts a space before a text; None if it does more."""
    space = "\u2581"
    normalizers, pre_tokenizers = tokenizer.normalizers, tokenizer.pre_tokenizers
    if normalizers and pre_tokenizers == (_GEMMA_SPLIT,):
        pre_tokenizers = ()
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": space}
    if normalizers and not pre_tokenizers:
        *prepends, last = normalizers
        if last == replace and prepends in ([], [{"type": "Prepend", "prepend": space}]):
            return {"tokenizer.ggml.add_space_prefix": bool(prepends)}
    if len(pre_tokenizers) == 1 and not normalizers:
        (step,) = pre_tokenizers
        scheme = _prepend_scheme(step)
        if (step.get("type"), step.get("replacement"), step.get("split")) == (
            *("Metaspace", space),
            False,
        ) and scheme in ("always", "first", "never"):
            return {
                "tokenizer.ggml.add_space_prefix": scheme != "never",
                "embellama.spaces.prepend": scheme,
            }
    return None


def _merges_runs_whole(tokenizer: Tokenizer, known: Mapping[int, str]) -> bool:
    """Whether spaces are joined to runs before all else; ModelLoadError for other merges.

    llama.cpp has a score for each token, and none for a merge. So merges must be all splits of all
    tokens, in the order of the tokens' ids. Gemma has those of runs first, and of these the longest
    left part first: a run then grows from its left end, as it does where longer runs have higher
    scores. Merges of other added tokens are never used, as these are found before all merges.
    """
    ids = tokenizer.model["vocab"]
    pairs = [tuple(merge.split(" ")) for merge in _merges(tokenizer)]
    results = [ids.get("".join(pair), -1) for pair in pairs]
    added = {token.content for token in tokenizer.added_tokens}
    splits = {
        (token[:end], token[end:])
        for token in ids
        if token not in added and token not in _BYTES
        for end in range(1, len(token))
        if token[:end] in ids and token[end:] in ids
    }
    if -1 not in results and splits <= set(pairs):
        if results == sorted(results):
            return False
        normal = [result for result in results if known[result] not in added]
        is_run = [known[result] in added and set(known[result]) == {"\u2581"} for result in results]
        runs = [pair for pair, run in zip(pairs, is_run, strict=True) if run]
        first = results.index(normal[0]) if normal else len(results)
        growing = [len(left) for left, right in runs if right == "\u2581"]
        if (
            normal == sorted(normal)
            and not any(is_run[first:])
            and growing == sorted(growing, reverse=True)
        ):
            return True
    raise tokenizer.error(
        "the merges are not those of SentencePiece, which join any two tokens that are a third "
        "one, the lowest id first; this checkpoint can't become a GGUF"
    )


def _sentencepiece_bpe(tokenizer: Tokenizer, n_tokens: int) -> Vocabulary:
    _refuse_switches(
        tokenizer,
        tokenizer.model,
        dropout=0.0,
        ignore_merges=False,
        continuing_subword_prefix="",
        end_of_word_suffix="",
    )
    switches = _bpe_spaces(tokenizer)
    known = _ids_to_tokens(tokenizer, n_tokens)
    if _TAB not in known.values():
        # transformers names this byte of Gemma's by its character (GemmaConverter.vocab).
        known = {index: _TAB if token == "\t" else token for index, token in known.items()}
    if switches is None or not set(known.values()) >= _BYTES:
        raise tokenizer.error(
            "BPE with byte_fallback, but a normalizer or pre-tokenizer that is not Llama's, or not "
            "a token for each byte; this checkpoint can't become a GGUF"
        )
    runs_whole = _merges_runs_whole(tokenizer, known)
    ids = {token: index for index, token in known.items()}
    special_ids = special_token_ids(tokenizer, ids)
    tokens, types = _tokens_and_types(tokenizer, known, n_tokens)
    scores = [float(-index) for index in range(n_tokens)]
    for index, token in enumerate(tokens):
        if token in _BYTES:
            types[index] = _Type.BYTE
        elif types[index] == _Type.USER_DEFINED and runs_whole and set(token) == {"\u2581"}:
            scores[index] = float(len(token))
    unknown = special_ids.get("tokenizer.ggml.unknown_token_id")
    if unknown is not None:
        types[unknown] = _Type.UNKNOWN
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        types=types,
        scores=scores,
        merges=[],
        charsmap=b"",
        ids=special_ids,
        switches=switches,
    )


# EmbeddingGemma's tokenizer is that of the Gemma that sees pictures, with a token beyond the table
# of embeddings. transformers fails on a text that spells it.
_BEYOND_THE_TABLE = frozenset({"<image_soft_token>"})
_BUILDERS = {"WordPiece": _wordpiece, "Unigram": _unigram, "BPE": _bpe}


def make_vocabulary(tokenizer: Tokenizer, n_tokens: int) -> Vocabulary:
    """Return the vocabulary for a model with embeddings for `n_tokens` tokens.

    Ids without a token get a token that matches nothing. ModelLoadError if llama.cpp can't split
    texts as `tokenizer` does.
    """
    within = [
        token
        for token in tokenizer.added_tokens
        if token.id < n_tokens or token.content not in _BEYOND_THE_TABLE
    ]
    tokenizer = dataclasses.replace(tokenizer, added_tokens=tuple(within))
    vocabulary = _BUILDERS[tokenizer.kind](tokenizer, n_tokens)
    _check_distinct(tokenizer, vocabulary.tokens)
    added = {
        f"tokenizer.ggml.add_{name}_token": flag
        for name, flag in added_special_tokens(tokenizer).items()
    }
    # tokenizers leaves an empty one out.
    tokens = sorted(
        (token for token in tokenizer.added_tokens if token.content),
        key=lambda token: (not token.special, token.id),
    )
    pieces = tokenizer.model["vocab"]
    known = {entry[0] for entry in pieces} if tokenizer.kind == "Unigram" else pieces
    return dataclasses.replace(
        vocabulary,
        switches={**added, **vocabulary.switches},
        added_tokens=tuple(tokens),
        in_vocabulary=[token.content in known for token in tokens],
    )
