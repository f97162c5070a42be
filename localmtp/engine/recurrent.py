"""Recurrent states: how far they can be rolled back, and how many to keep for that.

A target with recurrent layers (Qwen 3.5, Nemotron-H) rolls back rejected drafts by choosing among
states it retained: with libllama's `n_rs_seq` of N, those after each of the last N + 1 rows of a
sequence's last pass. So the number of states limits the length of drafts. `llama_memory_seq_rm`
accepts every distance up to N, also where the chosen state belongs to an earlier pass or to another
text: logits are then wrong, without an error (`llama-memory-recurrent.cpp`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from localmtp.limits import MAX_AUTO_DRAFT

_SMALL, _LARGE = 1 << 20, 100 * 10**6
"""Bytes of a state. Qwen 3.5: 0.8B 19 MB, 9B 53, 35B-A3B 66, 27B 157."""

_USUAL, _FEW = 4, 3
"""Drafts of a single head beyond these rarely pay: 4 states make a pass of one row 9 % slower,
measured at the shape of 0.8B, and 3 take 470 MB on 27B."""


class RollbackError(RuntimeError):
    """A roll back that would leave a wrong state: a defect of this program, not of its input."""


class RecurrentStates:
    """Distances that the recurrent states of each sequence can be rolled back.

    Args:
        snapshots: states retained before the last one, `n_rs_seq`.
        sequences: number of sequences.
    """

    def __init__(self, snapshots: int, sequences: int) -> None:
        self._snapshots = snapshots
        self._distance = [0] * sequences

    def distance(self, sequence: int) -> int:
        """Rows by which a sequence can be rolled back now."""
        return self._distance[sequence]

    def decoded(self, parts: Iterable[tuple[int, int]]) -> None:
        """Notes a pass of these sequences, each with its number of rows."""
        for sequence, rows in parts:
            self._distance[sequence] = min(self._snapshots, rows - 1)

    def spent(self, sequence: int) -> None:
        """Notes that a sequence was rolled back, restored or copied: possible once per pass."""
        self._distance[sequence] = 0


def draft_limit(state_bytes: int) -> int:
    """Longest draft, and number of additional states, for a state of this size; 0 is unknown."""
    if 0 < state_bytes <= _SMALL:
        return MAX_AUTO_DRAFT
    return _USUAL if state_bytes <= _LARGE else _FEW


def state_bytes(setting: Callable[[str], int]) -> int:
    """Bytes of the recurrent state of one sequence; 0 if the settings do not tell.

    Args:
        setting: returns an integer setting of the GGUF, 0 if it is missing.
    """
    inner, state = setting("ssm.inner_size"), setting("ssm.state_size")
    convolved = inner + 2 * setting("ssm.group_count") * state
    kernel, blocks = setting("ssm.conv_kernel"), setting("block_count")
    blocks -= setting("nextn_predict_layers")
    period = setting("full_attention_interval")
    recurrent = blocks - blocks // period if period else blocks
    return 4 * recurrent * (inner * state + max(0, kernel - 1) * convolved)
