"""Python classes around libllama; the only package that uses the C API.

Other packages work with token ids, numpy arrays and these classes; pointers stay here. Objects free
what they own when closed, when garbage-collected, or at exit, contexts before their models. The MTP
entry points are llama.cpp's `llama-ext.h`, declared experimental there, which is why
llama-cpp-python is pinned exactly.
"""

from localmtp.engine.llama.batch import Batch, RowBatch
from localmtp.engine.llama.context import Context, Floats, StateBytes
from localmtp.engine.llama.grammar import Grammar, gbnf
from localmtp.engine.llama.library import Functions, log_lines, system_info
from localmtp.engine.llama.model import Model, holds_tensor
from localmtp.engine.llama.offload import ALL_LAYERS, Offload
from localmtp.engine.llama.ranking import CANDIDATE, Ranking
from localmtp.engine.llama.vocab import TokenIds, Vocab

__all__ = [
    "ALL_LAYERS",
    "CANDIDATE",
    "Batch",
    "Context",
    "Floats",
    "Functions",
    "Grammar",
    "Model",
    "Offload",
    "Ranking",
    "RowBatch",
    "StateBytes",
    "TokenIds",
    "Vocab",
    "gbnf",
    "holds_tensor",
    "log_lines",
    "system_info",
]
