# SPDX-License-Identifier: Apache-2.0
"""The prompt of a reranker made from a causal model, filled in with a query and a document."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

__all__ = ["PairTemplate", "split_template"]

_PLACEHOLDER = re.compile(r"\{query\}|\{document\}")


@dataclasses.dataclass(frozen=True)
class PairTemplate:
    """A template in three parts, which are tokenized apart.

    Attributes
    ----------
    prefix, suffix : str
        End and begin with a special token, and hold nothing of a caller's.
    middle : str
        Has the query and the document. Only this part is cut.
    """

    prefix: str
    middle: str
    suffix: str

    def fill(self, query: str, document: str) -> str:
        """Return the middle part, filled in in one pass: a query may contain ``{document}``."""
        values = {"{query}": query, "{document}": document}
        return _PLACEHOLDER.sub(lambda match: values[match[0]], self.middle)


def split_template(template: str, special_tokens: Iterable[str]) -> PairTemplate:
    """Split a template at the special tokens next to the query and the document.

    Tokenizers split a text at special tokens first, so the tokens of the parts are those of the
    whole.

    Parameters
    ----------
    template : str
        As a file has it in ``tokenizer.chat_template.rerank``, such as
        ``"<|im_start|>user\\n{query}\\n{document}<|im_end|>"``.
    special_tokens : iterable of str
        Those of the vocabulary.

    Returns
    -------
    PairTemplate

    Examples
    --------
    >>> from embellama.embedding.pair_template import split_template
    >>> split_template("<s>Q: {query} D: {document}</s>", ["<s>", "</s>"])
    PairTemplate(prefix='<s>', middle='Q: {query} D: {document}', suffix='</s>')
    """
    places = [match.span() for match in _PLACEHOLDER.finditer(template)]
    first, last = (places[0][0], places[-1][1]) if places else (len(template), len(template))
    begin, end = 0, len(template)
    for token in filter(None, special_tokens):
        before = template.rfind(token, 0, first)
        begin = max(begin, before + len(token)) if before >= 0 else begin
        after = template.find(token, last)
        end = min(end, after) if after >= 0 else end
    return PairTemplate(template[:begin], template[begin:end], template[end:])
