# SPDX-License-Identifier: Apache-2.0
# cython: boundscheck=False, wraparound=False, nonecheck=True
"""Models, vocabularies and contexts of llama.cpp: the one extension that links it."""

import logging
import operator
import os
import unicodedata
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
    not_finite as not_finite_message,
)
from embellama.gguf import tokenizers
from embellama.machine.forking import renew_after_fork
from embellama.machine.usable_memory import usable_memory
from embellama.token_ids import token_ids

from cpython.pycapsule cimport PyCapsule_New
from libc.limits cimport INT_MAX
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy
from libcpp cimport bool as cpp_bool
from libcpp.string cimport string
from libcpp.vector cimport vector

cimport cython

from embellama.instruction_set cimport limit
from embellama.kernels cimport NORM_NONE, POOL_NONE, Norm, Pooling
from embellama.libllama cimport ggml, llama
from embellama.native cimport encode as native_encode
from embellama.native cimport encoder, guarded, micro_batches, worker_pool
from embellama.native.context_state cimport ContextParameters, ContextState, ExactCopy
from embellama.native.dense_head cimport DenseHead
from embellama.native.exact_copy cimport exact_copy_of
from embellama.native.tokenizer cimport Tokenizer
from embellama.native.use_count cimport (
    begin_use,
    close_unused,
    end_use,
    give_back,
    is_closed,
    reopen,
    take,
)
from embellama.rows cimport VectorLoops, loops_for
from embellama.rows cimport Norm as RowNorm
from embellama.rows cimport Pooling as RowPooling
from embellama.runtime cimport aborts, fork, llama_log, process_end
from embellama.runtime.cpu_features cimport InstructionSet
from embellama.runtime.status cimport (
    ABORTED,
    COMPUTE_FAILED,
    EXCEPTION,
    INVALID,
    NO_MEMORY,
    OK,
    TOKENIZER_FAILED,
    TOO_LARGE,
    Message,
)
from embellama.utf8 cimport utf8_of

cdef const VectorLoops *loops = &loops_for(<InstructionSet>limit())

logger = logging.getLogger("embellama.llama_cpp")

# The most threads that a computation may have.
MAX_THREADS = ggml.GGML_MAX_N_THREADS

MICRO_BATCH_TOKENS = micro_batches.MICRO_BATCH_TOKENS

# How embellama.workers gets its threads; see native/worker_pool.hpp.
WORKER_POOLS = PyCapsule_New(
    <void *>&worker_pool.worker_pools, worker_pool.WORKER_POOLS, NULL
)

# ggml_log_level, ggml.h
_LOG_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}


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


# What a Status of runtime/status.hpp means; the one place where it becomes an exception.
_FAILURES = {
    ABORTED: (OperationTimeoutError, "the computation was stopped"),
    INVALID: (InvalidInputError, "llama.cpp refused the input"),
    NO_MEMORY: (ResourceLimitError, "not enough memory: use smaller micro-batches or split texts"),
    COMPUTE_FAILED: (EmbeddingGenerationError, "llama.cpp failed to compute"),
    EXCEPTION: (EmbeddingGenerationError, "llama.cpp raised an error"),
    TOO_LARGE: (InvalidInputError, "a text has more than 2**31 bytes or tokens: split it"),
    TOKENIZER_FAILED: (TokenizationError, "the tokenizer failed"),
}


def failure_of(int status, str message not None):
    """Return the type and the text of the exception that a failed call's status stands for."""
    kind, meaning = _FAILURES[status]
    return kind, f"{meaning}: {message}" if message else meaning


cdef object error_of(int status, const Message &message, str model):
    kind, reason = failure_of(status, (<bytes>message.text).decode("utf-8", "replace"))
    return kind(f"{model}: {reason}")


# no_gc_clear: its __dealloc__ and those of others still read self.model, so the garbage collector
# must not clear that first. The same holds for Context and Workers.
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
        self.recurses = kind not in (
            llama.LLAMA_VOCAB_TYPE_WPM, llama.LLAMA_VOCAB_TYPE_SPM, llama.LLAMA_VOCAB_TYPE_UGM
        ) and pre_tokenizer_of(model) not in tokenizers.PRE_TOKENIZERS_WITHOUT_REGEX
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

    def normalized(self, str text not None):
        """Return a text in the Unicode form that the model's tokenizer wants.

        llama.cpp does not compose characters, as the tokenizers of Qwen and ModernBERT do first.
        :meth:`tokenize` calls this; callers of the Cython API's ``tokenize`` do it themselves.

        Parameters
        ----------
        text : str

        Returns
        -------
        str
            In NFC for such a tokenizer, else the text itself.
        """
        if text.isascii():
            return text
        if pre_tokenizer_of(self.model) not in tokenizers.PRE_TOKENIZERS_AFTER_NFC:
            return text
        return unicodedata.normalize("NFC", text)

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
        text = self.normalized(text)
        cdef const char *utf8 = utf8_of(text, &n_bytes)
        cdef int64_t n_ids = min(n_bytes + 16, INT_MAX)
        cdef int64_t capacity = -1
        cdef int32_t[::1] ids
        while capacity < n_ids:
            capacity = n_ids
            buffer = np.empty(capacity, dtype=np.int32)
            ids = buffer
            with nogil:
                n_ids = tokenize(
                    self, utf8, n_bytes, &ids[0], capacity, add_special, parse_special
                )
        return buffer[:n_ids].copy()


cdef str pre_tokenizer_of(Model model):
    """What the file says in ``tokenizer.ggml.pre``, or an empty string."""
    cdef char[64] name
    if llama.llama_model_meta_val_str(model.handle, b"tokenizer.ggml.pre", name, sizeof(name)) < 0:
        return ""
    return name.decode("utf-8", "replace")


cdef const encoder.Kernels *_kernels_for(
    str architecture, str instruction_set, bint exact
) except? NULL:
    cdef const encoder.Kernels *kernels
    if instruction_set == "llama.cpp":
        return NULL
    # llama.cpp rounds the activations of a product to what its weights are stored as. The encoder's
    # exact kernels do not, and they multiply for any architecture.
    if not exact and not encoder.supports(architecture.encode()):
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
        self.head = NULL
        self.exact = NULL
        self.dependents = weakref.WeakSet()
        renew_after_fork(self)

    def __init__(
        self, str path not None, *, bint use_mmap=True, bint use_mlock=False, n_gpu_layers=0,
        str architecture not None="", bint exact=False, str instruction_set not None="",
    ):
        if self.path is not None:
            raise RuntimeError("a Model is initialised once")
        if n_gpu_layers != 0 and not llama.llama_supports_gpu_offload():
            raise ConfigurationError(
                f"n_gpu_layers={n_gpu_layers}, but this build of embellama has no GPU backend: "
                "leave n_gpu_layers at 0, and an engine's use_gpu at False"
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
                if self.handle != NULL:
                    self.head = new DenseHead(self.handle)
                    self.exact = exact_copy_of(self.handle, name, params)
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
        # Closed, or another thread is closing it.
        if self.handle == NULL or is_closed(self.calls):
            return
        dependents = list(self.dependents)
        if not close_unused(self.calls):
            raise RuntimeError(f"{self.path}: another call uses the model: wait for it first")
        # ~llama_context reads the model (llama-context.cpp).
        try:
            for dependent in dependents:
                dependent.close()
        except BaseException:
            reopen(self.calls)
            raise
        free_weights(self)

    def __dealloc__(self):
        free_weights(self)

    cdef int check_open(self) except -1:
        if self.handle == NULL or is_closed(self.calls):
            raise ModelLoadError(f"{self.path}: the model is closed")
        return 0

    def _renew_after_fork(self):
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
        """Length of a text's vector."""
        self.check_open()
        return (<DenseHead *>self.head).n_out()

    @property
    def n_token_dimensions(self):
        """Length of a token's vector; another one where dense modules follow the pooling."""
        self.check_open()
        return (<DenseHead *>self.head).n_in()

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


cdef void free_weights(Model model) noexcept:
    cdef DenseHead *head = <DenseHead *>model.head
    del head
    model.head = NULL
    cdef ExactCopy *exact = <ExactCopy *>model.exact
    del exact
    model.exact = NULL
    if model.handle != NULL:
        llama.llama_model_free(model.handle)
    model.handle = NULL


cdef int begin_call(Model model) except -1 nogil:
    """Before llama.cpp is called with the model on a thread that is not ours."""
    if not begin_use(model.calls):
        with gil:
            raise ModelLoadError(f"{model.path}: the model is closed")
    if not process_end.enter_llama():
        end_use(model.calls)
        with gil:
            raise EmbeddingGenerationError(f"{model.path}: the process is ending")
    return 0


cdef void end_call(Model model) noexcept nogil:
    process_end.leave_llama()
    end_use(model.calls)


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
        self.state = NULL

    def __init__(self, Model model not None, *, n_threads=1):
        if self.model is not None:
            raise RuntimeError("a Context is initialised once")
        if not 1 <= operator.index(n_threads) <= MAX_THREADS:
            raise ConfigurationError(f"n_threads must be from 1 to {MAX_THREADS}")
        model.check_open()
        cdef ContextParameters parameters
        parameters.model = model.handle
        parameters.head = <const DenseHead *>model.head
        parameters.exact = <const ExactCopy *>model.exact
        parameters.n_threads = n_threads
        self.state = new ContextState(parameters)
        self.model = model
        model.dependents.add(self)
        renew_after_fork(self)

    def close(self):
        """Free the context's memory; it is opened again when it is next used.

        Raises
        ------
        RuntimeError
            If another thread computes with the context.
        """
        if self.state == NULL:
            return
        take_context(self)
        (<ContextState *>self.state).release()
        give_back(self.busy)

    def __dealloc__(self):
        cdef ContextState *state = <ContextState *>self.state
        del state

    def _renew_after_fork(self):
        """Start over in a child process; as in :class:`embellama.workers.Workers`."""
        self.busy = 0
        (<ContextState *>self.state).abandon()

    @property
    def n_tokens(self):
        """Tokens that fit into the memory held now."""
        return 0 if self.state == NULL else (<ContextState *>self.state).n_tokens()

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
        result = np.empty((len(tokens), self.model.n_token_dimensions), dtype=np.float32)
        cdef const int32_t[::1] id_view = tokens if len(tokens) else np.zeros(1, dtype=np.int32)
        cdef float[:, ::1] row_view = result
        cdef int64_t[2] offsets = [0, len(tokens)]
        with nogil:
            encode(
                self, &id_view[0], offsets, 1, POOL_NONE, NORM_NONE, 0,
                &row_view[0, 0],
            )
        return result


cdef int take_context(Context context) except -1 nogil:
    if not take(context.busy):
        with gil:
            raise RuntimeError(
                f"{context.model.path}: another thread uses this Context: give each thread its own"
            )
    return 0


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
    cdef Message message
    cdef Tokenizer tokenizer
    tokenizer.vocabulary = vocabulary.handle
    tokenizer.add_special = add_special
    tokenizer.parse_special = parse_special
    tokenizer.recurses = vocabulary.recurses
    begin_call(vocabulary.model)
    status = tokenizer.tokenize_on_any_stack(
        utf8, n_bytes, ids, <int32_t>min(max(capacity, 0), <int64_t>INT_MAX), n_ids, message
    )
    end_call(vocabulary.model)
    if status != OK:
        with gil:
            raise error_of(status, message, vocabulary.model.path)
    return n_ids if n_ids >= 0 else -<int64_t>n_ids


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
    cdef native_encode.EncodeParameters parameters
    cdef Message message
    cdef int64_t not_finite = -1
    cdef int status
    if n_texts <= 0:
        return 0
    begin_call(context.model)
    try:
        take_context(context)
        try:
            check_tokens(context.model, ids, offsets, n_texts)
            parameters.ids = ids
            parameters.offsets = offsets
            parameters.n_texts = n_texts
            parameters.pooling = <RowPooling>pooling
            parameters.norm = <RowNorm>norm
            parameters.p = p
            parameters.out = out
            status = native_encode.encode(
                (<ContextState *>context.state)[0], loops[0], parameters, process_end.process_ends,
                not_finite, message,
            )
        finally:
            give_back(context.busy)
    finally:
        end_call(context.model)
    if status != OK:
        with gil:
            flush_log()
            raise error_of(status, message, context.model.path)
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


def plan(const int64_t[::1] lengths, int64_t max_tokens, int64_t max_texts, int64_t n_workers):
    """Pack texts into micro-batches; see :func:`embellama.batch.plan`, which checks the numbers."""
    cdef vector[int64_t] all_lengths
    cdef int64_t n_texts = lengths.shape[0]
    cdef micro_batches.MicroBatches planned
    if n_texts > 0:
        all_lengths.assign(&lengths[0], &lengths[0] + n_texts)
    planned = micro_batches.plan_micro_batches(all_lengths, max_tokens, max_texts, n_workers)
    return array_of(planned.order), array_of(planned.bounds)


cdef object array_of(const vector[int32_t] &values):
    result = np.empty(values.size(), dtype=np.int32)
    cdef int32_t[::1] view
    if values.size() > 0:
        view = result
        memcpy(&view[0], values.data(), values.size() * sizeof(int32_t))
    return result


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
    if not 0 <= operator.index(n_threads) <= MAX_THREADS:
        raise ConfigurationError(f"n_threads must be from 0 to {MAX_THREADS}")
    cdef llama.llama_model_quantize_params params = llama.llama_model_quantize_default_params()
    params.nthread = n_threads
    params.ftype = <llama.llama_ftype>file_type
    source_name = os.fsencode(source)
    cdef const char *source_path = source_name
    cdef const char *destination_path = destination_name
    cdef int status
    cdef Message message
    _listen()
    llama_log.take_errors()
    with nogil:
        status = guarded.quantize(source_path, destination_path, params, message)
    flush_log()
    if status != OK:
        reason = (<bytes>message.text).decode("utf-8", "replace").strip() or "no reason given"
        no_memory = status == NO_MEMORY or _says_no_memory(reason)
        kind = ResourceLimitError if no_memory else ModelLoadError
        raise kind(f"{source}: llama.cpp can't quantise this file: {reason}")


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
