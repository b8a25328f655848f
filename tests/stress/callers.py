# SPDX-License-Identifier: Apache-2.0
"""Many threads call every public method of models and engines that come and go meanwhile.

Every result is compared with what one thread computed; a difference, an exception that is not
expected, a call that hangs, or a public name that nobody used is a finding::

    python tests/stress/callers.py --seconds 60 --threads 32
    python tests/stress/callers.py --seconds 60 --threads 32 --instruction-set llama.cpp
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import faulthandler
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import embellama
from embellama import CacheConfig, EmbeddingEngine, EmbeddingModel, EmbellamaError, ModelConfig
from embellama.convert import convert_checkpoint
from embellama.core import Context, Vocabulary
from embellama.embedding.verification import tolerance

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.checkpoints import write_reranker_checkpoint

MINILM = "all-MiniLM-L6-v2"
WORDS = "the quick brown fox jumps over a lazy dog while it rains in Paris and Rome".split()
# Bad texts, and what their errors say.
BAD = {"": "empty", " ": "white space", "\ud800": "surrogate", "word " * 600: "limit"}


def public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


class Watched:
    """A model or an engine that notes which of its names are used."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._used = set[str]()

    def __getattr__(self, name: str) -> Any:
        self._used.add(name)
        return getattr(self._target, name)


class Callers:
    """The models, what they answered when one thread asked, and what threads found."""

    def __init__(self, instruction_set: str | None, folder: Path) -> None:
        rng = random.Random(7)
        self.texts = [" ".join(rng.choices(WORDS, k=rng.choice([1, 5, 12, 40]))) for _ in range(60)]
        self.texts.append("word " * 400)
        checkpoint = embellama.catalog.resolve(MINILM, file_type="F16").parent / MINILM
        reranker = convert_checkpoint(
            write_reranker_checkpoint(checkpoint, folder / "checkpoint"),
            folder / "reranker.gguf",
            file_type="F32",
        )
        # Settings that meet in one process: caches, more threads than cores, another file.
        self.plain_config = ModelConfig(MINILM, instruction_set=instruction_set)
        sizes = CacheConfig(embedding_cache_size=40, token_cache_size=40)
        self.cached_config = self.plain_config.replace(model_name="cached", cache=sizes)
        self.crowded_config = self.plain_config.replace(model_name="crowded", n_threads=5)
        self.reranker_config = ModelConfig(reranker, instruction_set=instruction_set)
        with EmbeddingModel(self.plain_config.replace(n_threads=1)) as alone:
            self.expected = np.stack([alone.embed(text) for text in self.texts])
            self.multi = [alone.embed_multi(text) for text in self.texts]
            self.ids = [alone.tokenize(text) for text in self.texts]
            used = alone.core_model.instruction_set
            self.allowed = tolerance(alone.info.file_type, used)
        with EmbeddingModel(self.reranker_config.replace(n_threads=1)) as alone:
            ranked = alone.rerank(self.texts[0], self.texts)
            self.scores = {result.index: result.score for result in ranked}
            # A score is linear in a vector, of which `tolerance` speaks.
            spread = max(map(abs, self.scores.values()))
            self.allowed_score = spread * (2 * tolerance(alone.info.file_type, used)) ** 0.5
        self.plain = Watched(EmbeddingModel(self.plain_config))
        self.cached = Watched(EmbeddingModel(self.cached_config))
        self.reranker = Watched(EmbeddingModel(self.reranker_config))
        self.engine = Watched(EmbeddingEngine(self.cached_config))
        self.engine.load_model(self.crowded_config)
        self.engine.load_model(self.reranker_config)
        self.calls: collections.Counter[str] = collections.Counter()
        self.slowest: dict[str, float] = collections.defaultdict(float)
        self.findings: list[str] = []
        self.stop = threading.Event()

    # --- what is compared

    def check(self, what: str, right: Any) -> None:
        if not right:
            self.findings.append(what)

    def near(self, what: str, found: Any, expected: Any, rounding: float = 0) -> None:
        """Note a finding unless the rows point where they shall."""
        if found.shape != expected.shape:
            self.findings.append(f"{what}: shape {found.shape}, expected {expected.shape}")
            return
        a, b = np.float64(found), np.float64(expected)
        lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        distance = np.max(1 - (a * b).sum(axis=-1) / lengths, initial=0.0)
        self.check(f"{what}: 1 - cosine is {distance:.1e}", distance <= self.allowed + rounding)

    def ranked(self, what: str, results: Iterable[Any]) -> None:
        results = list(results)
        worst = max(abs(result.score - self.scores[result.index]) for result in results)
        self.check(f"{what}: a score is off by {worst:.1e}", worst <= self.allowed_score)
        scores = [result.score for result in results]
        self.check(f"{what}: not in order", scores == sorted(scores, reverse=True))

    def some(self, rng: random.Random) -> list[int]:
        return [rng.randrange(len(self.texts)) for _ in range(rng.choice([1, 2, 7, 30, 90]))]

    def of(self, chosen: Iterable[int]) -> list[str]:
        return [self.texts[i] for i in chosen]

    def model(self, rng: random.Random) -> Watched:
        return self.cached if rng.random() < 0.3 else self.plain

    # --- one text

    def embed(self, rng: random.Random) -> None:
        i = rng.randrange(len(self.texts))
        call = rng.choice(["embed", "embed_query"])
        self.near(call, getattr(self.model(rng), call)(self.texts[i]), self.expected[i])

    def embed_tokens(self, rng: random.Random) -> None:
        i = rng.randrange(len(self.texts))
        model = self.model(rng)
        self.check(
            "tokenize: other ids", np.array_equal(model.tokenize(self.texts[i]), self.ids[i])
        )
        self.check("count_tokens", model.count_tokens(self.texts[i]) == len(self.ids[i]))
        self.near("embed_tokens", model.embed_tokens(self.ids[i]), self.expected[i])

    # --- many texts

    def embed_batch(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        texts = self.of(chosen)
        out = rng.choice([None, np.empty((len(texts), 384), np.float32)])
        call = rng.choice(["embed_batch", "embed_documents", "embed_queries"])
        progress = rng.choice([False, lambda done, total: None])
        rows = getattr(self.model(rng), call)(texts, out=out, progress=progress)
        self.near(call, rows, self.expected[chosen])

    def embed_batch_smaller(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        expected = self.expected[chosen]
        model = self.model(rng)
        bits = model.embed_batch(self.of(chosen), dtype="ubinary")
        signs = np.unpackbits(bits, axis=1).astype(bool)
        # Vectors of unit length at an angle differ by at most this in one value.
        sure = np.abs(expected) > (2 * self.allowed) ** 0.5
        self.check("ubinary: another sign", (signs == (expected > 0))[sure].all())
        half = model.embed_batch(self.of(chosen), dtype="float16", truncate_dim=96)
        self.check("float16: shape", half.shape == (len(chosen), 96))
        # 11 bits of a mantissa: 2**-12 of each value at most, hence of the vector.
        self.near("float16", half, expected[:, :96], rounding=2.0**-24)

    def embed_batch_with_a_bad_text(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        at = rng.randrange(len(chosen) + 1)
        bad = rng.choice(list(BAD))
        texts = self.of(chosen)
        texts.insert(at, bad)
        model = self.model(rng)
        try:
            model.embed_batch(texts)
        except embellama.InvalidInputError as error:
            self.check(f"bad text {at}: {error}", error.index == at and BAD[bad] in str(error))
        else:
            self.findings.append("a bad text was embedded")
        result = model.embed_batch(texts, on_error="nan", details=True)
        self.check("on_error: other errors", list(result.errors) == [at])
        self.check("on_error: no NaN", np.isnan(result.embeddings[at]).all())
        good = np.delete(result.embeddings, at, axis=0)
        self.near("on_error", good, self.expected[chosen])

    def embed_multi(self, rng: random.Random) -> None:
        chosen = self.some(rng)[:8]
        model = self.model(rng)
        for i, rows in zip(chosen, model.embed_batch_multi(self.of(chosen)), strict=True):
            self.near("embed_batch_multi", rows, self.multi[i])
        rows = model.embed_multi(self.texts[i], special_tokens=False)
        self.near("embed_multi", rows, self.multi[i][1:-1])

    def embed_iter(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        for start, rows in self.model(rng).embed_iter(iter(self.of(chosen)), window=16):
            self.near("embed_iter", rows, self.expected[chosen[start : start + len(rows)]])

    def rerank(self, rng: random.Random) -> None:
        call = rng.choice([self.reranker.rerank, self.engine_rerank])
        top_n = rng.choice([None, 3])
        results = call(self.texts[0], self.texts, top_n=top_n)
        self.check("rerank: number", len(results) == (top_n or len(self.texts)))
        self.ranked("rerank", results)
        self.check("score_kind", self.reranker.score_kind == "logit")

    def engine_rerank(self, *arguments: Any, **options: Any) -> Any:
        return self.engine.rerank(*arguments, self.reranker_config.name, **options)

    # --- asyncio, time

    def asynchronous(self, rng: random.Random) -> None:
        chosen = self.some(rng)[:20]
        model = self.model(rng)
        of_many = rng.choice(["aembed_batch", "aembed_documents", "aembed_queries"])
        of_one = rng.choice(["aembed", "aembed_query"])

        async def main() -> None:
            batch = asyncio.create_task(getattr(model, of_many)(self.of(chosen)))
            one = asyncio.create_task(getattr(model, of_one)(self.texts[chosen[0]]))
            await asyncio.sleep(rng.choice([0, 0.01]))
            if rng.random() < 0.3:
                batch.cancel()
            vectors, vector = await asyncio.gather(batch, one, return_exceptions=True)
            for error in (vectors, vector):
                if isinstance(error, BaseException) and not batch.cancelled():
                    raise error
            if not batch.cancelled():
                self.near(of_many, vectors, self.expected[chosen])
                self.near(of_one, vector, self.expected[chosen[0]])

        asyncio.run(main())

    def timeout(self, rng: random.Random) -> None:
        with contextlib.suppress(embellama.OperationTimeoutError):
            self.model(rng).embed_batch(self.texts * 20, timeout=rng.choice([0, 0.01, 0.1]))

    # --- the rest of a model

    def properties(self, rng: random.Random) -> None:
        model = self.model(rng)
        for name in sorted(public(EmbeddingModel)):
            if isinstance(getattr(EmbeddingModel, name), property):
                getattr(model, name)
        a, b = self.expected[:2], self.expected[1:3]
        self.near("similarity", model.similarity(a, b).diagonal(), (a * b).sum(axis=1))
        self.near("pairwise", model.pairwise_similarity(a, b), (a * b).sum(axis=1))

    def caches(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        self.cached.warm_cache(self.of(chosen))
        for stats in self.cached.cache_stats().values():
            self.check(f"cache: {stats}", 0 <= stats.entry_count <= 40 and stats.memory_bytes >= 0)
        if rng.random() < 0.3:
            self.cached.clear_cache()

    def check_itself(self, rng: random.Random) -> None:
        rng.choice([self.plain.verify, self.plain.warmup, self.reranker.warmup])()
        if rng.random() < 0.02:
            self.plain.warmup(tune=True)

    def context(self, rng: random.Random) -> None:
        """The Cython API's objects, on weights that may be unloaded meanwhile."""
        i = rng.randrange(len(self.texts))
        core_model = self.plain.core_model
        ids = Vocabulary(core_model).tokenize(self.texts[i])
        rows = Context(core_model, n_threads=rng.choice([1, 3])).token_vectors(ids)
        self.near("token_vectors", rows.mean(axis=0), self.expected[i])

    def own_model(self, rng: random.Random) -> None:
        with EmbeddingModel(self.plain_config.replace(n_threads=rng.choice([1, 3]))) as own:
            i = rng.randrange(len(self.texts))
            self.near("own model", own.embed(self.texts[i]), self.expected[i])

    # --- engines

    def engine_call(self, rng: random.Random) -> None:
        chosen = self.some(rng)
        name = rng.choice([None, "cached", "crowded"])
        engine = self.engine
        i = chosen[0]
        for call in ("embed_batch", "embed_queries", "embed_documents"):
            rows = getattr(engine, call)(self.of(chosen), model=name)
            self.near(f"engine {call}", rows, self.expected[chosen])
        for call in ("embed", "embed_query"):
            vector = getattr(engine, call)(self.texts[i], name)
            self.near(f"engine {call}", vector, self.expected[i])
        self.near("engine", engine.embed_multi(self.texts[i], name), self.multi[i])
        self.near("engine", engine.embed_batch_multi([self.texts[i]], name)[0], self.multi[i])
        self.near("engine", engine.embed_tokens(self.ids[i], name), self.expected[i])
        self.near("engine", engine.model(name).embed(self.texts[i]), self.expected[i])
        self.engine_asynchronous(name, i)
        for start, rows in engine.embed_iter(self.of(chosen), name):
            self.near("engine", rows, self.expected[chosen[start : start + len(rows)]])
        self.check("tokenize", np.array_equal(engine.tokenize(self.texts[i], name), self.ids[i]))
        self.check("count_tokens", engine.count_tokens(self.texts[i], name) == len(self.ids[i]))
        a, b = self.expected[:2], self.expected[1:3]
        scores = engine.pairwise_similarity(a, b, name)
        self.near("similarity", engine.similarity(a, b, name).diagonal(), scores)
        self.check("cache_stats", ("embeddings" in engine.cache_stats(name)) == (name != "crowded"))
        engine.warm_cache(self.of(chosen), "cached")
        engine.clear_cache(name)
        if rng.random() < 0.5:
            engine.verify(name)
        self.check("list_models", engine.default_model == engine.list_models()[0] == "cached")
        self.check("model_info", engine.model_info(name).embedding_length == 384)
        self.check("is_model_registered", engine.is_model_registered("cached"))
        engine.is_model_loaded("cached")
        if rng.random() < 0.1:
            engine.warmup_model(name)

    def engine_asynchronous(self, name: str | None, i: int) -> None:
        async def main() -> None:
            for call in ("aembed", "aembed_query"):
                vector = await getattr(self.engine, call)(self.texts[i], name)
                self.near(f"engine {call}", vector, self.expected[i])
            for call in ("aembed_batch", "aembed_queries", "aembed_documents"):
                rows = await getattr(self.engine, call)([self.texts[i]], name)
                self.near(f"engine {call}", rows[0], self.expected[i])

        asyncio.run(main())

    def engine_models(self, rng: random.Random) -> None:
        """Of three more models, each thread takes away what others are using."""
        name = f"more {rng.randrange(3)}"
        i = rng.randrange(len(self.texts))
        ways = [self.engine.drop_model, self.engine.unload_model, self.engine.unregister_model]
        with contextlib.suppress(embellama.ModelNotFoundError):
            self.engine.load_model(self.plain_config.replace(model_name=name))
            self.near("engine", self.engine.embed(self.texts[i], name), self.expected[i])
            rng.choice(ways)(name)

    def shared_engine(self, rng: random.Random) -> None:
        engine = self.engine.get_or_init(self.plain_config)
        i = rng.randrange(len(self.texts))
        self.near("shared engine", engine.embed(self.texts[i]), self.expected[i])
        self.engine.instance()
        if rng.random() < 0.3:
            self.engine.reset()

    # --- the threads

    def call(self, number: int, n_threads: int) -> None:
        """What each thread does until it is told to stop."""
        rng = random.Random(number)
        methods: list[Callable[[random.Random], None]] = [
            self.embed, self.embed_tokens, self.embed_batch, self.embed_batch_smaller,
            self.embed_batch_with_a_bad_text, self.embed_multi, self.embed_iter, self.rerank,
            self.asynchronous, self.timeout, self.properties, self.caches, self.context,
            self.check_itself, self.own_model, self.engine_call, self.engine_models,
            self.shared_engine,
        ]  # fmt: skip
        # Each once, then what comes, the short calls more often.
        first = methods[number::n_threads]
        methods += [self.embed, self.embed_batch, self.properties] * 3
        while first or not self.stop.is_set():
            method = first[-1] if first else rng.choice(methods)
            name = method.__name__
            start = time.monotonic()
            try:
                method(rng)
                self.calls[name] += 1
                if first:
                    first.pop()
            except embellama.ModelLoadError as error:
                # Other threads unload the models.
                self.check(f"{name}: {error}", "unloaded" in str(error))
            except embellama.ModelNotFoundError as error:
                # Another thread takes this one away for a moment.
                self.check(f"{name}: {error}", "'crowded'" in str(error).split("registered")[0])
            except BaseException as error:
                first.clear()
                self.findings.append(f"{name}: {type(error).__name__}: {error}")
            self.slowest[name] = max(self.slowest[name], time.monotonic() - start)

    def unload_and_load(self) -> None:
        """Once in a while, so that most calls meet a loaded model."""
        while not self.stop.wait(0.4):
            try:
                for model in (self.plain, self.cached, self.reranker):
                    model.unload()
                    model.load()
                self.engine.drop_model("crowded")
                self.engine.unload_model("crowded")
            except EmbellamaError as error:
                self.findings.append(f"unload and load: {error}")
            self.engine.load_model(self.crowded_config)

    def look_for_unused_names(self) -> None:
        models = self.plain._used | self.cached._used | self.reranker._used
        unused = public(EmbeddingModel) - models | public(EmbeddingEngine) - self.engine._used
        self.check(f"never used: {', '.join(sorted(unused))}", not unused)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--instruction-set", help="llama.cpp to leave the encoder out")
    options = parser.parse_args()
    faulthandler.enable()
    # A deadlock shows where it is.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(int(10 * options.seconds) + 600)
    with tempfile.TemporaryDirectory() as folder:
        callers = Callers(options.instruction_set, Path(folder))
        threads = [
            threading.Thread(target=callers.call, args=(n, options.threads))
            for n in range(options.threads)
        ]
        threads.append(threading.Thread(target=callers.unload_and_load))
        for thread in threads:
            thread.start()
        time.sleep(options.seconds)
        callers.stop.set()
        for thread in threads:
            thread.join()
        callers.plain.load()
        callers.near("afterwards", callers.plain.embed_batch(callers.texts), callers.expected)
        if callers.calls.total() >= 500:  # what is chosen at random comes sooner or later
            callers.look_for_unused_names()
    for finding, count in collections.Counter(callers.findings).most_common(20):
        print(f"{count} x {finding}")
    slowest = max(callers.slowest, key=callers.slowest.__getitem__)
    print(f"{callers.calls.total()} calls: {dict(callers.calls.most_common())}")
    print(f"the slowest: {slowest}, {callers.slowest[slowest]:.1f} s")
    print(f"{len(callers.findings)} findings")
    return int(bool(callers.findings))


if __name__ == "__main__":
    sys.exit(main())
