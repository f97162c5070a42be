"""Answers that follow a grammar: what it does not allow is masked before the sampler looks.

libllama's grammar sampler is reached through the library that `localmtp.engine.llama` has loaded,
under a handle of its own, so that argument types are declared here and for this use alone.
"""

from __future__ import annotations

import ctypes
import weakref

import numpy as np

from localmtp.engine.llama import CANDIDATE, Floats, Model, TokenIds, library, log_lines
from localmtp.engine.sampling import Draft, Proposal, Sampler, Sampling, Truncation
from localmtp.errors import LocalmtpError

_LIKELY = 64
"""Tokens that are tried before the whole vocabulary is: asking about 262,144 takes longer than a
pass of many models."""

_LIB = ctypes.CDLL(library()._name)
_LIB.llama_sampler_init_grammar.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
_LIB.llama_sampler_accept.argtypes = (ctypes.c_void_p, ctypes.c_int32)
_LIB.llama_model_get_vocab.restype = ctypes.c_void_p
_LIB.llama_sampler_init_grammar.restype = ctypes.c_void_p
_LIB.llama_sampler_clone.restype = ctypes.c_void_p


class UnsatisfiableError(LocalmtpError):
    """No token goes on as the grammar demands."""


class _Candidates(ctypes.Structure):
    """`llama_token_data_array`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


class Grammar:
    """A grammar, and how far a text has come in it.

    Args:
        handle: a `llama_sampler` of libllama's; owned from here on.
    """

    def __init__(self, handle: int) -> None:
        self._handle = ctypes.c_void_p(handle)
        self._free = weakref.finalize(self, _LIB.llama_sampler_free, self._handle)

    @classmethod
    def parse(cls, model: Model, text: str) -> Grammar:
        """Read GBNF whose first rule is `root`.

        Raises:
            LocalmtpError: it is not valid, or larger than libllama takes.
        """
        vocab = _LIB.llama_model_get_vocab(ctypes.c_void_p(model.handle))
        with log_lines():  # libllama says at length what is wrong, in terms of GBNF
            handle = _LIB.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not handle:
            raise LocalmtpError("libllama cannot use the grammar: too large, or not valid")
        return cls(handle)

    def clone(self) -> Grammar:
        """Another one that stands at the same place."""
        return Grammar(_LIB.llama_sampler_clone(self._handle))

    def allowed(self, ids: TokenIds) -> TokenIds:
        """Those of the tokens that may come next, in the same order."""
        rows = np.zeros(ids.size, CANDIDATE)
        rows["id"] = ids
        array = _Candidates(rows.ctypes.data, ids.size, -1, False)
        _LIB.llama_sampler_apply(self._handle, ctypes.byref(array))
        kept: TokenIds = ids[np.isfinite(rows["logit"])]
        return kept

    def accept(self, token_id: int) -> None:
        """Go on by a token, which must be allowed: libllama ends the process otherwise."""
        _LIB.llama_sampler_accept(self._handle, token_id)


class ConstrainedSampler:
    """Chooses as another sampler does, among what a grammar allows.

    The target's distribution is truncated first and masked then; where nothing of it is left, the
    whole vocabulary is masked. Drafts are not masked: speculative sampling is exact whatever they
    are drawn from, so drafting goes on, and tokens that the grammar forbids are simply rejected.

    Args:
        inner: decides.
        sampling: its settings.
        grammar: at its beginning.
    """

    def __init__(self, inner: Sampler, sampling: Sampling, grammar: Grammar) -> None:
        self._inner = inner
        greedy = Sampling(1.0, top_k=_LIKELY, top_p=1.0)
        truncation = Truncation(sampling if sampling.temperature > 0 else greedy)
        self._truncated = truncation.of
        self._grammar = grammar

    def propose(self, logits: Floats) -> Proposal:
        """As the inner sampler."""
        return self._inner.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """As the inner sampler."""
        return self._inner.draw(proposal, draft)

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """As the inner sampler on masked logits.

        Raises:
            UnsatisfiableError: nothing is allowed.
        """
        masked = np.full_like(logits, float("-inf"))
        state = self._grammar.clone()
        for row, drafted in enumerate([*draft.tokens, None]):
            ids = self._allowed(logits[row], state)
            masked[row, ids] = logits[row, ids]
            if drafted is None or drafted not in ids:
                break  # a draft that is not allowed is rejected: later rows are not looked at
            state.accept(drafted)
        accepted, follower = self._inner.judge(masked, draft)
        for token in (*draft.tokens[:accepted], follower):
            self._grammar.accept(token)
        return accepted, follower

    def _allowed(self, logits: Floats, state: Grammar) -> TokenIds:
        ids = state.allowed(np.array(self._truncated(logits).ids, np.int32))
        if not ids.size:
            everything = np.arange(logits.size, dtype=np.int32)
            ids = state.allowed(everything[np.isfinite(logits)])
        if not ids.size:
            raise UnsatisfiableError("no text satisfies the schema")
        return ids
