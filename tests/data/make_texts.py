# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF001 - the texts hold characters that look like others on purpose
"""Write ``texts.json``: what the tests tokenise and embed.

A list of ``{"name", "text"}``, ASCII only. A name that ends in ``_N_tokens`` promises N tokens in
the vocabulary of bert-base-uncased, [CLS] and [SEP] counted; ``make_minilm_reference.py`` checks
it. Needs Python alone::

    python tests/data/make_texts.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

# Each is one token in the vocabulary of bert-base-uncased.
WORDS = (
    "the quick brown fox sees a small river and walks along its green bank until evening comes "
    "then it sleeps under an old tree while stars rise over every quiet village field road"
)
LENGTHS = (3, 4, 8, 16, 31, 32, 33, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 700)


def exact_length(n_tokens: int) -> str:
    """Give a text of `n_tokens` tokens, [CLS] and [SEP] counted."""
    words = WORDS.split()
    generator = random.Random(n_tokens)
    # random() alone is promised to give the same numbers in every version of Python.
    return " ".join(words[int(generator.random() * len(words))] for _ in range(n_tokens - 2))


PROSE = (
    "Information retrieval systems rank documents by how well they answer a query. Early systems "
    "counted words; later ones weighed rare words more than common ones. A dense retriever maps "
    "both sides into one vector space, where the angle between two vectors stands for the "
    "relatedness of the texts. That makes paraphrases meet although they share no word, and it "
    "lets an index answer in a few milliseconds. It also has weaknesses: names, numbers and rare "
    "terms blur, and a long document becomes one point. Practitioners therefore combine both "
    "kinds of search and let a slower model reorder the first hundred candidates."
)

TEXTS: dict[str, str] = {
    # English
    "one_letter": "a",
    "one_word": "hello",
    "two_words": "hello world",
    "sentence": "The quick brown fox jumps over the lazy dog.",
    "question": "What is the capital of France?",
    "upper_case": "THE CAPITAL OF FRANCE IS PARIS!",
    "mixed_case": "iPhone mcDonald eBay LaTeX GitHub",
    "contractions": "I'm sure they'd've gone, wouldn't you? It's o'clock; rock 'n' roll.",
    "prose": PROSE,
    "prose_twice": PROSE + "\n\n" + PROSE,
    "rare_words": "Antidisestablishmentarianism, floccinaucinihilipilification and zyzzyva.",
    "no_spaces": "thisisasentencewithoutanyspacesinit",
    # scripts
    "french": "Où est passé l'élève naïf ? À Noël, ça coûte très cher : 5 €.",
    "german": "Straße, Größe, Äußerung, STRASSE, STRAẞE; weiß oder weiss?",
    "turkish": "İstanbul'da ıssız bir IŞIK ve iyi İNSANLAR: İİİ ııı",
    "vietnamese": "Tiếng Việt có nhiều dấu thanh điệu phức tạp.",
    "polish": "Zażółć gęślą jaźń, ŁÓDŹ.",
    "icelandic": "Þetta er íslenska, ÆÐI ÖRÆFI og ður.",
    "romanian": "Șțiință și țară, Ăâî.",
    "greek": "Ο γρήγορος καφές ΟΔΥΣΣΕΥΣ ᾳ ᾠδή ἄνθρωπος ς σ Σ",
    "russian": "Съешь же ещё этих мягких французских булок, ЁЖИК.",
    "ukrainian": "Їжак ґречно зʼїв її яблуко — і пішов.",
    "serbian": "Љубазни фењерџија ЧАЂАВОГ лица.",
    "arabic": "مرحبا بالعالم، هَذِهِ لُغَةٌ عَرَبِيَّةٌ ١٢٣؟",
    "persian": "می‌خواهم کتاب بخوانم؛ ۴۵۶",
    "hebrew": "שלום עולם, שָׁלוֹם־עֲלֵיכֶם",
    "hindi": "हिन्दी भाषा में लिखा हुआ एक वाक्य। क़लम ज़रूर १२३",
    "bengali": "বাংলা ভাষায় একটি বাক্য। কোথায় গৌরব ড়ঢ়য়",
    "tamil": "தமிழ் மொழியில் ஒரு வாக்கியம் கொடு கௌரவம்",
    "telugu": "తెలుగు భాషలో ఒక వాక్యం",
    "kannada": "ಕನ್ನಡ ಭಾಷೆಯಲ್ಲಿ ಕೋಟಿ ವಾಕ್ಯ",
    "malayalam": "മലയാളം കൊടുക്കുക കോഴി",
    "sinhala": "සිංහල ගෝනා කෞතුක",
    "thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ น้ำ",
    "lao": "ພາສາລາວ ນ້ຳ",
    "khmer": "ភាសាខ្មែរ",
    "burmese": "မြန်မာဘာသာ",
    "tibetan": "བོད་ཡིག་ཨི་ཤུ།",
    "chinese": "我喜欢自然语言处理，今天天气很好。",
    "chinese_traditional": "臺灣的繁體中文與English混排2024年",
    "japanese": "東京でラーメンを食べました。ガギグゲゴ パピプペポ ﾊﾝｶｸ",
    "korean": "한국어 문장은 이렇게 씁니다. 값싼 닭 읽다",
    "korean_jamo": (
        "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165 \u1106\u116e\u11ab\u110c\u1161\u11bc"
    ),
    "korean_letters": "ㄱㄴㄷ ㅏㅑㅓ ㅋㅋㅋ",
    "georgian": "ქართული ენა ᲥᲐᲠᲗᲣᲚᲘ Ⴀⴀ",
    "armenian": "Հայերեն լեզու, և այլն։",
    "ethiopic": "አማርኛ ቋንቋ ነው።",
    "cherokee": "ᏣᎳᎩ ꮳꮃꭹ",
    "mongolian": "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ᠌",
    "balinese": "ᬅᬆᬇᬈ ᬩᬮᬶ᭽",
    "scripts_mixed": "Hello Привет 你好 こんにちは 안녕 שלום مرحبا नमस्ते สวัสดี",
    # markup, code, numbers
    "url": "See https://example.org/a/b?q=1&lang=de#top or http://192.168.0.1:8080/.",
    "email": "Write to jane.doe+news@mail.example.co.uk (or <root@localhost>).",
    "python": "def f(x: int) -> int:\n    return x ** 2 if x != 0 else -1  # why?\n",
    "c": '#include <stdio.h>\nint main(void) { printf("%d\\n", 0xFF & ~1); return 0; }',
    "json": '{"id": 7, "tags": ["a", "b"], "ok": true, "x": null, "y": -1.5e-3}',
    "html": '<p class="lead">Fish &amp; chips&nbsp;<br/></p>',
    "markdown": "# Title\n\n- *item* one\n- **two** `code`\n\n| a | b |\n|---|---|\n",
    "sql": "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY 1;",
    "path": r"C:\Users\me\file_name-v2.tar.gz /usr/local/bin/../lib",
    "hashtags": "#machinelearning @user_name :-) ;) <3 ^_^ ¯\\_(ツ)_/¯",
    "maths": "∀x ∈ ℝ: ∑ᵢ xᵢ² ≥ 0, ∫₀^∞ e^{-x} dx = 1, √2 ≈ 1.414, α·β ≠ ∅ ⇒ ∎",
    "latex": r"$\frac{\partial f}{\partial x} = \alpha_{i}^{2}$",
    "mathematical_letters": "𝐁𝐨𝐥𝐝 𝑖𝑡𝑎𝑙𝑖𝑐 𝔉𝔯𝔞𝔨𝔱𝔲𝔯 𝟘𝟙𝟚 𝒮𝒸𝓇𝒾𝓅𝓉",
    "numbers": "3.14159 1,000,000 1e10 0x1F 50% 1/2 ½ ¾ Ⅷ № 5 1st 2024-01-31T23:59:59Z",
    "digits_long": "1234567890" * 10,
    "digits_longer": "9" * 101,
    "superscripts": "x² y³ H₂O 10⁻⁹ ªº ™ ® © ℠",
    "currency": "$5 €10 £3 ¥100 ₹50 ₽7 ₿1 ₩9 ¢¤ ₾",
    "ligatures": "ﬁsh ﬂow oﬃce ﬀ ﬆ Ǆ ǆ œ Æ ĳ ŉ",
    "full_width": "ＡＢＣ　ａｂｃ　１２３！？（）＠",
    "punctuation": "...!!!???---___***###~~~^^^```|||\\\\\\///",
    "punctuation_unicode": "«quote» “double” ‘single’ — – … ‽ ¿¡ § ¶ † ‡ • 「」『』、。・〜",
    "punctuation_recent": "\u061d \u2e43 \u2e4f\u2e52 a\u2e5db \u166d\u166e",
    "box_drawing": "┌──┐ │░▒▓│ ◆◇★☆ ←↑→↓ ▁ ▁the a▁the ▁▁",
    # emoji
    "emoji": "I love pizza 🍕 and 🎉🎉 😀😂🥰",
    "emoji_joined": "👨‍👩‍👧‍👦 👩🏽‍💻 🏳️‍🌈 ❤️‍🔥",
    "emoji_flags": "🇫🇷 🇯🇵 🇺🇳 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "emoji_skin": "👍🏻👍🏿 ✊🏾 ☝🏼 1️⃣ #️⃣ ☎️ ☎︎",
    # white space, controls, what is hard to see
    "white_space": "a\u00a0b\u2003c\u3000d\te\r\nf\u2009g\u202fh\u205fi\u1680j",
    "white_space_runs": "  leading,   inner \t\t and trailing   \n\n",
    "line_separators": "one\u2028two\u2029three\u0085four\u000bfive\u000csix\u001cseven",
    "zero_width": "zero\u200bwidth\u200cnon\u200djoiner\u2060word\ufeffmark",
    "zero_width_only": "\u200b\u200d\ufeff",
    "byte_order_mark": "\ufeffstarts with a mark",
    "directions": "\u202bright\u202c \u2066left\u2069 \u200e\u200f\u061c end",
    "controls": "a\u0001b\u0007c\u001bd\u007fe\u0080f\u009fg",
    "nul": "before\u0000after \u0000 end\u0000",
    "replacement": "bro\ufffdken \ufffd\ufffd text",
    "soft_hyphen": "hy\u00adphen\u00adation co-op re\u2010do non\u2011breaking",
    "combining": "e\u0301 n\u0303 Z\u0351\u036ba\u0321\u031bl\u0488g\u20ddo\u20e3 \u0301alone",
    "combining_order": "q\u0307\u0323 q\u0323\u0307 \u212b \u1e9b\u0323 \u0344",
    "decomposed": "Cafe\u0301 Zu\u0308rich \u304b\u3099 \u0438\u0306",
    "variation": "\u845b\U000e0100 \u2764\ufe0e \u2764\ufe0f",
    "private_use": "a\ue000b \uf8ff \U000f0000 \U0010fffd",
    "unassigned": "a\u0378b \u0380 \U000e0fff \U0001fffe \uffff",
    "cjk_extensions": "\u3400 \U00020000\U0002a6df \U0002a700 \U0002b820x\U0002b920y \U00030000",
    "cjk_compatibility": "\uf900\ufa0e \U0002f800 \u2f00 \u3007",
    "capitals_recent": "\u1c89\ua7cb\ua7dc\U00010d50\U00016ea0",
    # long words: WordPiece gives up above 100 characters
    "word_99": "a" * 99,
    "word_100": "ab" * 50,
    "word_101": "a" * 101,
    "word_250": "supercalifragilistic" * 12 + "expialidoc",
    "word_100_accents": "é" * 100,
    "word_101_accents": "é" * 101,
    "word_102_jamo": "각" * 34,
    "word_101_in_text": "before " + "x" * 101 + " after",
    "chinese_120": "的" * 120,
    # special tokens that a user types
    "typed_sep": "first part [SEP] second part",
    "typed_all": "[CLS] a [MASK] b [UNK] c [PAD] d [SEP]",
    "typed_glued": "x[SEP]y[CLS][CLS]z[MASK]ing",
    "typed_lower": "[sep] [cls] [Mask] [pAD]",
    "typed_broken": "[ SEP ] [SEP [[SEP]] SEP] [S\u200bEP]",
    "typed_edges": "[SEP]in the middle[CLS]",
    "typed_others": "<s> </s> <|endoftext|> <|im_end|> <unk> <pad> [unused1] ##ing ## #",
}


def main() -> None:
    """Write ``texts.json`` beside this file."""
    texts = TEXTS | {f"words_{n}_tokens": exact_length(n) for n in LENGTHS}
    rows = ",\n".join(json.dumps({"name": name, "text": text}) for name, text in texts.items())
    Path(__file__).with_name("texts.json").write_text(f"[\n{rows}\n]\n", encoding="ascii")


if __name__ == "__main__":
    main()
