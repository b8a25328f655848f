# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False, nonecheck=True
"""Models, vocabularies and contexts of llama.cpp: the one extension that links it."""

import logging
import operator
import os
import weakref

import numpy as np

from embellama import instruction_set as process_instruction_set
from embellama.errors import (
    ConfigurationError,
    EmbeddingGenerationError,
    InvalidInputError,
    ModelLoadError,
    ModelNotFoundError,
    OperationTimeoutError,
    ResourceLimitError,
    TokenizationError,
    lone_surrogate,
    not_finite as not_finite_message,
)
from embellama.machine.usable_memory import usable_memory
from embellama.token_ids import token_ids

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.limits cimport INT_MAX
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy
from libcpp cimport bool as cpp_bool
from libcpp.string cimport string
from libcpp.vector cimport vector

cimport cython

from embellama.runtime.cpu_features cimport InstructionSet
from embellama.instruction_set cimport limit
from embellama.kernels cimport NORM_NONE, POOL_NONE, Norm, Pooling, normalize, pool
from embellama.libllama cimport ggml, llama
from embellama.native cimport encoder, guarded
from embellama.runtime cimport aborts, fork, llama_log, process_end

cdef extern from *:
    """
    static_assert(embellama::OK == 0 && embellama::ABORTED == 2 && embellama::INVALID == -1 &&
                  embellama::NO_MEMORY == -2 && embellama::COMPUTE_FAILED == -3 &&
                  embellama::EXCEPTION == -4 && embellama::TOO_LARGE == -5,
                  "core.pxd's Status and guarded.hpp's differ");
    """

cdef extern from *:
    enum:
        ACQUIRE "__ATOMIC_ACQUIRE"
        RELEASE "__ATOMIC_RELEASE"
    int32_t atomic_add "__atomic_fetch_add" (int32_t *target, int32_t value, int order) nogil
    int32_t atomic_exchange "__atomic_exchange_n" (int32_t *target, int32_t value, int order) nogil
    void atomic_store "__atomic_store_n" (int32_t *target, int32_t value, int order) nogil

logger = logging.getLogger("embellama.llama_cpp")

# ggml_log_level, ggml.h
_LOG_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}


# Values of tokenizer.ggml.pre whose expression has a loop of its own in unicode.cpp
# (unicode_regex_split_custom) and is the only one of its kind (llama-vocab.cpp).
_WITHOUT_REGEX = frozenset("""
gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en
jina-v2-code roberta-bpe mpt olmo jais trillion granite-docling exaone4
llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe
chatglm-bpe glm4 glm5
qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2 qwen35
gemma4 granite-embed-multi-311m sarvam-moe mmbert
""".split())


def _listen():
    """Tell llama.cpp's log which lines the logger wants."""
    level = logger.getEffectiveLevel()
    wanted = [ggml_level for ggml_level, python in _LOG_LEVELS.items() if python >= level]
    llama_log.set_log_level(min(wanted, default=5))


cpdef flush_log():
    """Hand the lines llama.cpp logged so far to ``logging.getLogger("embellama.llama_cpp")``."""
    cdef int level = 0
    cdef string line
    while llama_log.take_log_line(level, line):
        # line.decode() would copy the string first, where no exception may come from.
        text = line.data()[:line.size()].decode("utf-8", "replace").rstrip()
        logger.log(_LOG_LEVELS.get(level, logging.INFO), "%s", text)


cdef str _logged_errors():
    return (<bytes>llama_log.take_errors()).decode("utf-8", "replace").strip()


cdef bint _says_no_memory(str reason):
    return any(words in reason for words in ("bad_alloc", "allocate", "mmap failed"))


cdef int raise_for_status(int status, str message, str model) except -1:
    """Raise what a Status other than OK means; the one place where they are told apart."""
    if status == OK:
        return 0
    meanings = {
        ABORTED: (OperationTimeoutError, "the computation was stopped"),
        INVALID: (InvalidInputError, "llama.cpp refused the input"),
        NO_MEMORY: (ResourceLimitError, "not enough memory: use smaller micro-batches"),
        COMPUTE_FAILED: (EmbeddingGenerationError, "llama.cpp failed to compute"),
        TOO_LARGE: (InvalidInputError, "the text has more than 2**31 tokens or bytes"),
    }
    kind, meaning = meanings.get(status, (EmbeddingGenerationError, "llama.cpp raised an error"))
    raise kind(f"{model}: {meaning}" + (f": {message}" if message else ""))


# Freed before what it points to, as its __dealloc__ and those of others read that; the garbage
# collector would clear it first. The same holds for Context and Workers.
@cython.no_gc_clear
cdef class Vocabulary:
    """The tokens of a model.

    Parameters
    ----------
    model : Model

    Raises
    ------
    ModelLoadError
        If the file lacks a token that its own rules ask for.
    """

    def __cinit__(self):
        self.handle = NULL

    def __init__(self, Model model not None):
        if self.model is not None:
            raise RuntimeError("a Vocabulary is initialised once")
        model.check_open()
        cdef const llama_vocab *vocabulary = llama.llama_model_get_vocab(model.handle)
        self.bos = llama.llama_vocab_bos(vocabulary)
        self.eos = llama.llama_vocab_eos(vocabulary)
        self.sep = llama.llama_vocab_sep(vocabulary)
        kind = llama.llama_vocab_type_of(vocabulary)
        cdef bint word_piece = kind == llama.LLAMA_VOCAB_TYPE_WPM
        # The regular expressions of BPE pre-tokenizers run on std::regex, but for the commonest.
        cdef char[64] pre_tokenizer
        pre_tokenizer[0] = 0
        llama.llama_model_meta_val_str(
            model.handle, b"tokenizer.ggml.pre", pre_tokenizer, sizeof(pre_tokenizer)
        )
        self.recurses = kind not in (
            llama.LLAMA_VOCAB_TYPE_WPM, llama.LLAMA_VOCAB_TYPE_SPM, llama.LLAMA_VOCAB_TYPE_UGM
        ) and pre_tokenizer.decode("utf-8", "replace") not in _WITHOUT_REGEX
        cdef bint add_bos = word_piece or llama.llama_vocab_get_add_bos(vocabulary)
        cdef bint add_eos = llama.llama_vocab_get_add_eos(vocabulary)
        cdef bint add_sep = llama.llama_vocab_get_add_sep(vocabulary)
        missing = None
        # llama_vocab::impl::tokenize asserts these (llama-vocab.cpp); an assertion would abort.
        if kind == llama.LLAMA_VOCAB_TYPE_NONE:
            missing = "a vocabulary"
        elif add_bos and self.bos < 0:
            missing = "the id of its first token (tokenizer.ggml.bos_token_id or cls_token_id)"
        elif word_piece and self.sep < 0:
            missing = "the id of its separator (tokenizer.ggml.seperator_token_id)"
        elif add_eos and self.eos < 0:
            missing = "the id of its end token (tokenizer.ggml.eos_token_id)"
        if missing:
            raise ModelLoadError(f"{model.path}: the file lacks {missing}; convert the model again")
        self.model = model
        self.handle = vocabulary
        special = self.tokenize("").tolist()
        self.n_prefix = min(int(add_bos), len(special))
        self.n_suffix = len(special) - self.n_prefix
        # Two texts as one input: [CLS] a [SEP] b [SEP] for BERT, <s> a </s></s> b </s> for
        # RoBERTa and XLM-R, whose files say add_sep_token.
        end = [self.sep] if word_piece else [self.eos] if add_eos else []
        middle = [self.sep] if add_sep and not word_piece and self.sep >= 0 else []
        self.pair_frame = ([self.bos] if add_bos else [], end + middle, end)

    def __len__(self):
        return self.model.n_vocabulary

    def token(self, id):
        """Return the text of one token as the file spells it.

        Parameters
        ----------
        id : int
            From 0 to ``len(vocabulary) - 1``.

        Returns
        -------
        str

        Raises
        ------
        InvalidInputError
            If there is no such token.
        """
        if not 0 <= operator.index(id) < len(self):
            raise InvalidInputError(f"token ids go from 0 to {len(self) - 1}, not {id}")
        return llama.llama_vocab_get_text(self.handle, id).decode("utf-8", "replace")

    def tokenize(self, str text not None, *, bint add_special=True, bint parse_special=True):
        """Turn a text into token ids.

        Parameters
        ----------
        text : str
        add_special : bool, optional
            Add the special tokens the model wants around a text (default True).
        parse_special : bool, optional
            Take special tokens spelled in the text for what they spell (default True).

        Returns
        -------
        numpy.ndarray of int32, shape (T,)

        Raises
        ------
        InvalidInputError
            If the text holds lone surrogates.
        TokenizationError
            If the tokenizer fails.
        ModelLoadError
            If the model is closed.
        """
        cdef Py_ssize_t n_bytes = 0
        cdef const char *utf8 = utf8_of(text, &n_bytes)
        cdef int32_t capacity = <int32_t>min(n_bytes + 16, INT_MAX)
        cdef int32_t n_ids = 0
        cdef int32_t[::1] ids
        cdef int status
        cdef char[MESSAGE_SIZE] message
        message[0] = 0
        while True:
            buffer = np.empty(capacity, dtype=np.int32)
            ids = buffer
            with nogil:
                begin_call(self.model)
                status = tokenize_on_any_stack(
                    self, utf8, n_bytes, &ids[0], capacity, add_special, parse_special, &n_ids,
                    message,
                )
                end_call(self.model)
            if status != 0:
                raise TokenizationError(message.decode("utf-8", "replace") or "text too long")
            if n_ids >= 0:
                return buffer[:n_ids].copy()
            capacity = -n_ids


cdef void touch_thread_memory() noexcept nogil:
    aborts.touch_thread_memory()


cdef const char *utf8_of(str text, Py_ssize_t *n_bytes) except NULL:
    """The UTF-8 form that the str object itself keeps: no copy for ASCII."""
    try:
        return PyUnicode_AsUTF8AndSize(text, n_bytes)
    except UnicodeEncodeError as error:
        raise InvalidInputError(lone_surrogate("the text", text, error.start)) from None


cdef int tokenize_utf8(
    const llama_vocab *vocabulary,
    const char *text,
    int64_t n_bytes,
    int32_t *ids,
    int32_t capacity,
    bint add_special,
    bint parse_special,
    bint recurses,
    const int32_t *abort_flag,
    int32_t *n_ids,
    char *message,
) noexcept nogil:
    if n_bytes > INT_MAX - 64:
        return TOO_LARGE
    return guarded.tokenize(
        vocabulary, text, <int32_t>n_bytes, ids, capacity, add_special, parse_special, recurses,
        abort_flag, n_ids, message, MESSAGE_SIZE,
    )


cdef int tokenize_on_any_stack(
    Vocabulary vocabulary,
    const char *text,
    int64_t n_bytes,
    int32_t *ids,
    int32_t capacity,
    bint add_special,
    bint parse_special,
    int32_t *n_ids,
    char *message,
) noexcept nogil:
    """tokenize_utf8() for threads that are not ours, between begin_call() and end_call()."""
    if vocabulary.recurses and n_bytes <= INT_MAX - 64:
        return guarded.tokenize_on_large_stack(
            vocabulary.handle, text, <int32_t>n_bytes, ids, capacity, add_special, parse_special,
            n_ids, message, MESSAGE_SIZE,
        )
    return tokenize_utf8(
        vocabulary.handle, text, n_bytes, ids, capacity, add_special, parse_special, False,
        NULL, n_ids, message,
    )


cdef const encoder.Kernels *_kernels_for(
    str architecture, str instruction_set, bint exact
) except? NULL:
    cdef const encoder.Kernels *kernels
    if instruction_set == "llama.cpp" or not encoder.claims(architecture.encode()):
        return NULL
    kernels = encoder.choose_kernels(instruction_set.encode(), exact)
    if kernels == NULL:
        reason = _left_out().get(instruction_set, "there is none of this name")
        raise ConfigurationError(
            f"instruction_set={instruction_set!r} can't be used: {reason}; those that run here: "
            f"{', '.join(_names(encoder.available_kernels()))}, llama.cpp"
        )
    return kernels


cdef list _names(vector[const encoder.Kernels *] kernels):
    return [kernels[i].name.decode() for i in range(kernels.size())]


cdef dict _left_out():
    reasons = process_instruction_set.left_out()
    for name in _names(encoder.refused_kernels()):
        reasons[name] = "the processor claims it, but computes something else with it"
    return reasons


cdef class Model:
    """The weights and vocabulary of one GGUF file.

    Safe to share between any number of contexts on any threads.

    Parameters
    ----------
    path : str
        A GGUF file.
    use_mmap, use_mlock : bool, optional
        Map the file (default True); lock its pages in memory (default False).
    n_gpu_layers : int, optional
        Layers to put on a GPU (default 0).
    architecture : str, optional
        What the file says in ``general.architecture``. Where embellama's own encoder knows it,
        weights are packed for that; empty, the default, leaves all to llama.cpp.
    exact : bool, optional
        Whether the encoder shall compute in float32 throughout (default False).
    instruction_set : str, optional
        One of ``backend_info()["instruction_sets"]``, or ``"llama.cpp"`` to leave all to
        llama.cpp. Empty, the default, takes the fastest.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    ModelLoadError
        If llama.cpp can't load it; the message holds what llama.cpp logged.
    ResourceLimitError
        If there is no memory for it.
    ConfigurationError
        If `n_gpu_layers` is not 0 in a build without a GPU backend, or `instruction_set` names
        none that runs here.
    """

    def __cinit__(self):
        self.handle = NULL
        self.contexts = weakref.WeakSet()
        _open_at_fork[id(self)] = self

    def __init__(
        self, str path not None, *, bint use_mmap=True, bint use_mlock=False, n_gpu_layers=0,
        str architecture not None="", bint exact=False, str instruction_set not None="",
    ):
        if self.path is not None:
            raise RuntimeError("a Model is initialised once")
        if n_gpu_layers != 0 and not llama.llama_supports_gpu_offload():
            raise ConfigurationError(
                f"n_gpu_layers={n_gpu_layers}, but this build of embellama has no GPU backend: "
                "leave n_gpu_layers at 0"
            )
        if not os.path.isfile(path):
            raise ModelNotFoundError(f"{path}: no such file")
        cdef llama.llama_model_params params = llama.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        if use_mmap:
            params.load_mode = (
                llama.LLAMA_LOAD_MODE_MMAP_MLOCK if use_mlock else llama.LLAMA_LOAD_MODE_MMAP
            )
        else:
            params.load_mode = (
                llama.LLAMA_LOAD_MODE_MLOCK if use_mlock else llama.LLAMA_LOAD_MODE_NONE
            )
        cdef const encoder.Kernels *kernels = _kernels_for(architecture, instruction_set, exact)
        # What the kernel would end the process for, amid the copying. The encoder packs weights,
        # which may halve them.
        size = os.path.getsize(path)
        if not use_mmap and kernels == NULL and size > (usable := usable_memory()):
            raise ResourceLimitError(
                f"{path}: use_mmap=False copies {size / 1e6:.0f} MB of weights, and this process "
                f"can have {usable / 1e6:.0f} MB: use use_mmap=True or a smaller file type"
            )
        cdef bytes file_name = os.fsencode(path)
        cdef const char *name = file_name
        self.path = path
        _listen()
        llama_log.take_errors()
        try:
            with nogil:
                self.handle = guarded.load_model(name, params, kernels)
        except MemoryError:
            raise ResourceLimitError(f"{path}: not enough memory to load the model") from None
        except RuntimeError as error:
            raise ModelLoadError(f"{path}: llama.cpp can't load this file: {error}") from None
        finally:
            flush_log()
        if self.handle == NULL:
            reason = _logged_errors()
            # llama.cpp catches its exceptions itself and logs what they say.
            if _says_no_memory(reason):
                raise ResourceLimitError(f"{path}: not enough memory to load the model: {reason}")
            raise ModelLoadError(
                f"{path}: llama.cpp can't load this file: {reason or 'no reason given'}"
            )

    def close(self):
        """Free the weights and what computes with them; neither can be used afterwards.

        Calling it again does nothing.

        Raises
        ------
        RuntimeError
            If a call computes or tokenizes with the model; nothing is freed then.
        """
        if self.handle == NULL or self.calls < 0:  # closed, or another thread is closing it
            return
        contexts = list(self.contexts)
        if atomic_add(&self.calls, CLOSED, ACQUIRE) > 0:
            atomic_add(&self.calls, -CLOSED, RELEASE)
            raise RuntimeError(f"{self.path}: another call uses the model: wait for it first")
        # ~llama_context reads the model (llama-context.cpp).
        try:
            for context in contexts:
                context.close()
        except BaseException:
            atomic_add(&self.calls, -CLOSED, RELEASE)
            raise
        llama.llama_model_free(self.handle)
        self.handle = NULL

    def __dealloc__(self):
        if self.handle != NULL:
            llama.llama_model_free(self.handle)

    cdef int check_open(self) except -1:
        if self.handle == NULL or self.calls < 0:
            raise ModelLoadError(f"{self.path}: the model is closed")
        return 0

    def _reopen_after_fork(self):
        if self.handle != NULL:
            self.calls = 0

    @property
    def description(self):
        """What llama.cpp calls the model, such as ``"bert 22M F16"``."""
        self.check_open()
        cdef char[256] buffer
        llama.llama_model_desc(self.handle, buffer, sizeof(buffer))
        return buffer.decode("utf-8", "replace")

    @property
    def instruction_set(self):
        """What the encoder computes with; ``"llama.cpp"`` where all is left to llama.cpp."""
        self.check_open()
        cdef const encoder.Kernels *kernels = encoder.kernels_of(self.handle)
        return "llama.cpp" if kernels == NULL else kernels.name.decode()

    @property
    def n_dimensions(self):
        """Length of a token's output vector."""
        self.check_open()
        return llama.llama_model_n_embd_out(self.handle)

    @property
    def n_context(self):
        """The longest text the model was trained for, in tokens."""
        self.check_open()
        return llama.llama_model_n_ctx_train(self.handle)

    @property
    def n_parameters(self):
        """Number of weights."""
        self.check_open()
        return llama.llama_model_n_params(self.handle)

    @property
    def size(self):
        """Bytes of all tensors."""
        self.check_open()
        return llama.llama_model_size(self.handle)

    @property
    def n_vocabulary(self):
        """Number of tokens it knows."""
        self.check_open()
        return llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.handle))

    @property
    def n_scores(self):
        """Outputs of the classification head (RANK)."""
        self.check_open()
        return llama.llama_model_n_cls_out(self.handle)

    @property
    def has_encoder(self):
        """Whether texts go through an encoder with its own graph, as in T5."""
        self.check_open()
        return bool(llama.llama_model_has_encoder(self.handle))


cdef enum:
    # Added to Model.calls, so that no call may begin; far more than there can be threads.
    CLOSED = -1_000_000_000


cdef int hold_open(Model model) except -1 nogil:
    if atomic_add(&model.calls, 1, ACQUIRE) < 0:
        let_go(model)
        with gil:
            raise ModelLoadError(f"{model.path}: the model is closed")
    return 0


cdef void let_go(Model model) noexcept nogil:
    atomic_add(&model.calls, -1, RELEASE)


cdef int begin_call(Model model) except -1 nogil:
    """Before llama.cpp is called with the model on a thread that is not ours."""
    hold_open(model)
    if not process_end.enter_llama():
        let_go(model)
        with gil:
            raise EmbeddingGenerationError(f"{model.path}: the process is ending")
    return 0


cdef void end_call(Model model) noexcept nogil:
    process_end.leave_llama()
    let_go(model)


@cython.no_gc_clear
cdef class Context:
    """One thread's room to compute with a Model; grows with what it is given.

    Parameters
    ----------
    model : Model
    n_threads : int, optional
        Threads one computation uses (default 1).

    Raises
    ------
    ConfigurationError
        If `n_threads` is not from 1 to 512.
    ModelLoadError
        If the model is closed.
    """

    def __cinit__(self):
        self.state = <State *>calloc(1, sizeof(State))
        if self.state == NULL:
            raise MemoryError()

    def __init__(self, Model model not None, *, n_threads=1):
        if self.model is not None:
            raise RuntimeError("a Context is initialised once")
        if not 1 <= operator.index(n_threads) <= 512:
            raise ConfigurationError("n_threads must be from 1 to 512")
        model.check_open()
        self.model = model
        self.state.model = model.handle
        self.state.n_threads = n_threads
        self.state.pooling = TOKENS
        self.state.abort_flag = &process_end.process_ends
        model.contexts.add(self)
        _open_at_fork[id(self)] = self

    def close(self):
        """Free the context's memory; it is opened again when it is next used.

        Raises
        ------
        RuntimeError
            If another thread computes with the context.
        """
        take(self)
        release(self.state)
        give_back(self)

    def __dealloc__(self):
        if self.state != NULL:
            release(self.state)
        free(self.state)

    def _reopen_after_fork(self):
        """Start over in a child process; as :meth:`Workers.reopen_after_fork`."""
        self.busy = 0
        abandon(self.state)

    @property
    def n_tokens(self):
        """Tokens that fit into the memory held now."""
        return self.state.n_tokens

    def token_vectors(self, ids):
        """Compute the output vector of each token of one text.

        Parameters
        ----------
        ids : array_like of int32, shape (T,)
            Token ids, special tokens included.

        Returns
        -------
        numpy.ndarray of float32, shape (T, D)

        Raises
        ------
        InvalidInputError
            If there is no token, one too many for the model, or one the vocabulary lacks.
        EmbeddingGenerationError
            If the computation fails, or gives a NaN or an infinity.
        ResourceLimitError
            If memory runs out.
        ModelLoadError
            If the model is closed.
        RuntimeError
            If another thread computes with the context.
        """
        tokens = token_ids(ids, self.model.path, self.model.n_vocabulary)
        result = np.empty((len(tokens), self.model.n_dimensions), dtype=np.float32)
        cdef const int32_t[::1] id_view = tokens if len(tokens) else np.zeros(1, dtype=np.int32)
        cdef float[:, ::1] row_view = result
        cdef int64_t[2] offsets = [0, len(tokens)]
        with nogil:
            encode(
                self, &id_view[0], offsets, 1, POOL_NONE, NORM_NONE, 0,
                &row_view[0, 0],
            )
        return result


# By id, as a list of weak references can be had from it whatever other threads do meanwhile.
_open_at_fork = weakref.WeakValueDictionary()


def _reopen_after_fork():
    for reference in _open_at_fork.valuerefs():
        opened = reference()
        if opened is not None:
            opened._reopen_after_fork()


os.register_at_fork(after_in_child=_reopen_after_fork)


cdef int take(Context context) except -1 nogil:
    if atomic_exchange(&context.busy, 1, ACQUIRE) != 0:
        with gil:
            raise RuntimeError(
                f"{context.model.path}: another thread uses this Context: give each thread its own"
            )
    return 0


cdef void give_back(Context context) noexcept nogil:
    atomic_store(&context.busy, 0, RELEASE)


cdef int installed_api_version() noexcept nogil:
    return EMBELLAMA_API_VERSION


API_VERSION = EMBELLAMA_API_VERSION


cdef int64_t tokenize(
    Vocabulary vocabulary,
    const char *utf8,
    int64_t n_bytes,
    int32_t *ids,
    int64_t capacity,
    bint add_special,
    bint parse_special,
) except -1 nogil:
    cdef int32_t n_ids = 0
    cdef int status
    cdef char[MESSAGE_SIZE] message
    message[0] = 0
    begin_call(vocabulary.model)
    status = tokenize_on_any_stack(
        vocabulary, utf8, n_bytes, ids, <int32_t>min(max(capacity, 0), <int64_t>INT_MAX),
        add_special, parse_special, &n_ids, message,
    )
    end_call(vocabulary.model)
    if status == OK:
        return n_ids if n_ids >= 0 else -<int64_t>n_ids
    with gil:
        if status == TOO_LARGE:
            raise InvalidInputError(
                f"{vocabulary.model.path}: a text of {n_bytes} bytes is too large: split it"
            )
        raise TokenizationError(
            f"{vocabulary.model.path}: the tokenizer failed: {message.decode('utf-8', 'replace')}"
        )


# What encode() shares out among micro-batches.
cdef struct Span:
    int64_t text
    int64_t n_tokens

cdef enum:
    # As embedder.py: attention in llama.cpp runs over a whole micro-batch.
    MICRO_BATCH_TOKENS = 256
    MICRO_BATCH_TEXTS = 256


cdef int longer_first(const void *left, const void *right) noexcept nogil:
    cdef const Span *a = <const Span *>left
    cdef const Span *b = <const Span *>right
    if a.n_tokens != b.n_tokens:
        return -1 if a.n_tokens > b.n_tokens else 1
    return -1 if a.text < b.text else 1


cdef int encode(
    Context context,
    const int32_t *ids,
    const int64_t *offsets,
    int64_t n_texts,
    Pooling pooling,
    Norm norm,
    double p,
    float *out,
) except -1 nogil:
    cdef Span *spans
    cdef int64_t not_finite = -1
    cdef int64_t text
    cdef int status
    if n_texts <= 0:
        return 0
    begin_call(context.model)
    try:
        take(context)
        try:
            check_tokens(context.model, ids, offsets, n_texts)
            spans = <Span *>malloc(n_texts * sizeof(Span))
            if spans == NULL:
                status = NO_MEMORY
            else:
                for text in range(n_texts):
                    spans[text].text = text
                    spans[text].n_tokens = offsets[text + 1] - offsets[text]
                qsort(spans, n_texts, sizeof(Span), longer_first)
                status = encode_spans(
                    context.state, llama.llama_model_n_embd_out(context.model.handle), ids,
                    offsets, spans, n_texts, pooling, norm, p, out, &not_finite,
                )
                free(spans)
            if status != OK:
                with gil:
                    flush_log()
                    raise_for_status(
                        status, (<bytes>context.state.message).decode("utf-8", "replace"),
                        context.model.path,
                    )
        finally:
            give_back(context)
    finally:
        end_call(context.model)
    if not_finite >= 0:
        with gil:
            raise EmbeddingGenerationError(
                not_finite_message(f"{context.model.path}: text {not_finite}")
            )
    return 0


cdef int check_tokens(
    Model model, const int32_t *ids, const int64_t *offsets, int64_t n_texts
) except -1 nogil:
    cdef int64_t longest = llama.llama_model_n_ctx_train(model.handle)
    cdef int32_t n_vocabulary = llama.llama_vocab_n_tokens(
        llama.llama_model_get_vocab(model.handle)
    )
    cdef int64_t text, token, n_tokens
    for text in range(n_texts):
        n_tokens = offsets[text + 1] - offsets[text]
        if not 1 <= n_tokens <= longest:
            with gil:
                raise InvalidInputError(
                    f"{model.path}: text {text} has {n_tokens} tokens, and from 1 to {longest} "
                    "are possible",
                    index=text,
                )
        for token in range(offsets[text], offsets[text + 1]):
            if not 0 <= ids[token] < n_vocabulary:
                with gil:
                    raise InvalidInputError(
                        f"{model.path}: text {text} has a token {ids[token]}, and they go from 0 "
                        f"to {n_vocabulary - 1}",
                        index=text,
                    )
    return 0


cdef int encode_spans(
    State *state,
    int64_t n_dims,
    const int32_t *ids,
    const int64_t *offsets,
    const Span *spans,
    int64_t n_texts,
    Pooling pooling,
    Norm norm,
    double p,
    float *out,
    int64_t *not_finite,
) noexcept nogil:
    cdef const int32_t *texts[MICRO_BATCH_TEXTS]
    cdef int32_t[MICRO_BATCH_TEXTS] lengths
    cdef const float *rows
    cdef float *target
    cdef int64_t n_tokens, row
    cdef int64_t first = 0
    cdef int32_t i, n
    cdef int status
    cdef bint finite
    while first < n_texts:
        n = 0
        n_tokens = 0
        while first + n < n_texts and n < MICRO_BATCH_TEXTS and (
            n == 0 or n_tokens + spans[first + n].n_tokens <= MICRO_BATCH_TOKENS
        ):
            texts[n] = ids + offsets[spans[first + n].text]
            lengths[n] = <int32_t>spans[first + n].n_tokens
            n_tokens += lengths[n]
            n += 1
        status = reserve(
            state, <int32_t>max(n_tokens, <int64_t>MICRO_BATCH_TOKENS), MICRO_BATCH_TEXTS
        )
        if status == OK:
            status = compute(state, texts, lengths, n)
        if status != OK:
            return status
        rows = token_vectors(state)
        if rows == NULL:
            return COMPUTE_FAILED
        for i in range(n):
            finite = True
            if pooling == POOL_NONE:
                target = out + (offsets[spans[first + i].text] - offsets[0]) * n_dims
                memcpy(target, rows, lengths[i] * n_dims * sizeof(float))
                for row in range(lengths[i]):
                    finite &= normalize(norm, p, target + row * n_dims, n_dims)
            else:
                target = out + spans[first + i].text * n_dims
                pool(pooling, rows, lengths[i], n_dims, target)
                finite = normalize(norm, p, target, n_dims)
            if not finite and not_finite[0] < 0:
                not_finite[0] = spans[first + i].text
            rows += lengths[i] * n_dims
        first += n
    return OK


cdef int reserve(State *state, int32_t n_tokens, int32_t n_sequences) noexcept nogil:
    state.message[0] = 0
    if n_tokens <= state.n_tokens and n_sequences <= state.n_sequences:
        return OK
    n_tokens = max(n_tokens, state.n_tokens)
    n_sequences = max(n_sequences, state.n_sequences)
    release(state)
    cdef llama.llama_context_params params = llama.llama_context_default_params()
    cdef ggml.ggml_threadpool *threadpool = NULL
    cdef int status
    # The whole micro-batch is one ubatch; more sequences than tokens would abort.
    params.n_ctx = params.n_batch = params.n_ubatch = max(n_tokens, n_sequences)
    params.n_seq_max = n_sequences
    params.n_threads = params.n_threads_batch = state.n_threads
    params.pooling_type = <llama.llama_pooling_type><int>state.pooling
    params.embeddings = True
    params.kv_unified = True
    params.no_perf = True
    status = guarded.new_context(
        state.model, params, &state.context, state.message, MESSAGE_SIZE
    )
    if status == OK:
        status = guarded.new_batch(state.context, &state.batch, state.message, MESSAGE_SIZE)
    if status == OK:
        status = guarded.new_threadpool(
            state.n_threads, &threadpool, state.message, MESSAGE_SIZE
        )
    if status != OK:
        release(state)
        return status
    state.threadpool = threadpool
    llama.llama_attach_threadpool(state.context, threadpool, threadpool)
    state.n_tokens = n_tokens
    state.n_sequences = n_sequences
    return OK


cdef void release(State *state) noexcept nogil:
    if state.batch != NULL:
        llama.llama_batch_ext_free(state.batch)
    if state.context != NULL:
        llama.llama_free(state.context)
    if state.threadpool != NULL:
        ggml.ggml_threadpool_free(<ggml.ggml_threadpool *>state.threadpool)
    abandon(state)


cdef void abandon(State *state) noexcept nogil:
    state.batch = NULL
    state.context = NULL
    state.threadpool = NULL
    state.n_tokens = state.n_sequences = 0


cdef int compute(
    State *state,
    const int32_t *const *ids,
    const int32_t *lengths,
    int32_t n_sequences,
) noexcept nogil:
    cdef llama.llama_memory_t memory = llama.llama_get_memory(state.context)
    cdef llama.llama_process_type kind = llama.LLAMA_PROCESS_TYPE_ENCODE
    cdef int32_t sequence, position
    cdef int64_t n_tokens = 0
    cdef int status
    state.message[0] = 0
    for sequence in range(n_sequences):
        n_tokens += lengths[sequence]
    # llama_encode asserts the first and llama-batch.cpp does not check the second.
    if n_tokens > state.n_tokens or n_sequences > state.n_sequences:
        return TOO_LARGE
    guarded.set_abort_flag(state.context, state.abort_flag)
    guarded.clear_batch(state.batch)
    for sequence in range(n_sequences):
        for position in range(lengths[sequence]):
            status = guarded.add_token(
                state.batch, sequence, ids[sequence][position], position,
                state.message, MESSAGE_SIZE,
            )
            if status != OK:
                return status
    if memory != NULL and not llama.llama_model_has_encoder(state.model):
        llama.llama_memory_clear(memory, False)
        kind = llama.LLAMA_PROCESS_TYPE_DECODE
    status = guarded.process(
        state.context, kind, state.batch, state.message, MESSAGE_SIZE
    )
    if status == EXCEPTION or status == NO_MEMORY:
        # What was under way was left where it stood.
        release(state)
    return status


cdef const float *token_vectors(State *state) noexcept nogil:
    return llama.llama_get_embeddings(state.context)


cdef const float *scores(State *state, int32_t sequence) noexcept nogil:
    return llama.llama_get_embeddings_seq(state.context, sequence)


def quantize(str source not None, str destination not None, file_type, n_threads=0):
    """Write a GGUF file anew with another type of weights, by llama.cpp's quantiser.

    Parameters
    ----------
    source, destination : str
        GGUF files; `source` holds F32, F16 or BF16 weights.
        What is there already at `destination` is lost.
    file_type : int
        A ``llama_ftype`` of llama.h, such as 7 for Q8_0.
    n_threads : int, optional
        Threads to use, at most 512; 0, the default, means all.

    Raises
    ------
    ModelNotFoundError
        If there is no file `source`.
    ModelLoadError
        If llama.cpp can't read `source` or write `destination`.
    ResourceLimitError
        If memory runs out.
    ConfigurationError
        If both are the same file, `destination` can't be a file's name, or a number is out of its
        range.
    """
    if not os.path.isfile(source):
        raise ModelNotFoundError(f"{source}: no such file")
    try:
        destination_name = os.fsencode(destination)
        if b"\0" in destination_name:
            raise ValueError("a NUL")
    except ValueError:
        raise ConfigurationError(f"{destination!r} can't be a file's name") from None
    # It is opened for writing while the source is mapped, which would end the process.
    if os.path.exists(destination) and os.path.samefile(source, destination):
        raise ConfigurationError(f"{destination}: is the source itself; name another file")
    if not 0 <= operator.index(file_type) <= INT_MAX:
        raise ConfigurationError("file_type is none of llama.h's llama_ftype")
    if not 0 <= operator.index(n_threads) <= 512:
        raise ConfigurationError("n_threads must be from 0 to 512")
    cdef llama.llama_model_quantize_params params = llama.llama_model_quantize_default_params()
    params.nthread = n_threads
    params.ftype = <llama.llama_ftype>file_type
    source_name = os.fsencode(source)
    cdef const char *source_path = source_name
    cdef const char *destination_path = destination_name
    cdef int status
    cdef char[MESSAGE_SIZE] message
    message[0] = 0
    _listen()
    llama_log.take_errors()
    if not process_end.enter_llama():
        raise ModelLoadError(f"{source}: the process is ending")
    with nogil:
        status = guarded.quantize(source_path, destination_path, &params, message, MESSAGE_SIZE)
        process_end.leave_llama()
    flush_log()
    if status != OK:
        reason = message.decode("utf-8", "replace").strip() or "no reason given"
        no_memory = status == NO_MEMORY or _says_no_memory(reason)
        kind = ResourceLimitError if no_memory else ModelLoadError
        raise kind(f"{source}: llama.cpp can't quantise this file: {reason}")


cdef bint process_is_ending() noexcept:
    return process_end.process_ends


cdef bint enter_llama() noexcept nogil:
    return process_end.enter_llama()


cdef void leave_llama() noexcept nogil:
    process_end.leave_llama()


cdef void end_calls() noexcept nogil:
    process_end.end_calls()


def backend_info():
    """Return what this process computes with.

    The environment variable ``EMBELLAMA_INSTRUCTION_SET``, read when embellama is imported, sets
    the most that may be used: one of ``generic``, ``avx2``, ``avx_vnni``, ``avx512``,
    ``avx512_vnni``, ``avx512_bf16``, ``amx`` on x86-64, and of ``generic``, ``dotprod``,
    ``i8mm`` on ARM. Where AMX is to be had, this call asks the kernel for its tiles, as loading a
    model does.

    Returns
    -------
    dict
        ``llama_cpp`` (release), ``instruction_set`` (what encoders are computed with by default),
        ``instruction_sets`` (those encoders can be computed with here, the fastest first),
        ``llama_cpp_instruction_set`` (what llama.cpp's own code is compiled for), ``left_out``
        (dict from each instruction set that is not used to the reason), ``devices`` (list of str)
        and ``cpu_features`` (list of what llama.cpp's own code uses).

    Examples
    --------
    >>> import embellama
    >>> embellama.backend_info()["llama_cpp"]
    'b11549'
    """
    reasons = _left_out()
    tiles = "amx" in process_instruction_set.NAMES and "amx" not in reasons
    features = {
        "AVX": ggml.ggml_cpu_has_avx(),
        "AVX2": ggml.ggml_cpu_has_avx2(),
        "FMA": ggml.ggml_cpu_has_fma(),
        "F16C": ggml.ggml_cpu_has_f16c(),
        "AVX_VNNI": ggml.ggml_cpu_has_avx_vnni(),
        "AVX512": ggml.ggml_cpu_has_avx512(),
        "AVX512_VNNI": ggml.ggml_cpu_has_avx512_vnni(),
        "AVX512_BF16": ggml.ggml_cpu_has_avx512_bf16(),
        # Compiled in beside bfloat16, and used where tiles are to be had.
        "AMX_INT8": tiles and ggml.ggml_cpu_has_amx_int8(),
        "NEON": ggml.ggml_cpu_has_neon(),
        "DOTPROD": ggml.ggml_cpu_has_dotprod(),
        "MATMUL_INT8": ggml.ggml_cpu_has_matmul_int8(),
        "SVE": ggml.ggml_cpu_has_sve(),
    }
    devices = []
    cdef size_t i
    for i in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(i)
        devices.append(
            f"{ggml.ggml_backend_dev_name(device).decode()}: "
            f"{ggml.ggml_backend_dev_description(device).decode()}"
        )
    return {
        "llama_cpp": llama.llama_version().decode(),
        "instruction_set": encoder.choose_kernels("", False).name.decode(),
        "instruction_sets": _names(encoder.available_kernels()),
        "llama_cpp_instruction_set": "amx" if tiles else process_instruction_set.LLAMA_CPP,
        "left_out": reasons,
        "devices": devices,
        "cpu_features": [name for name, present in features.items() if present],
    }


cdef cpp_bool _tiles_permitted() noexcept nogil:
    # The encoder tries whether they compute what they should.
    return encoder.choose_kernels("amx", False) != NULL


# The log callback and the backend registry are unlocked process globals: set them up once.
llama_log.install_log()
aborts.install_abort_callback()
fork.install_fork_handlers()
llama.llama_backend_init()
if process_instruction_set.LIMIT == "amx":
    ggml.ggml_cpu_set_amx_permission(_tiles_permitted)
encoder.set_limit(<InstructionSet>limit())
encoder.register_backend()
