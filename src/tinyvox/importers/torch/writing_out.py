"""What some of PyTorch's operators come to in others: cells for one step, and packed sequences.

Where every utterance has all frames, packing changes the layout alone: the packed data of
[frames, batch, size] is [frames * batch, size].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload

from tinyvox.errors import ImporterError
from tinyvox.importers.tape import Tape, Value, operator_name
from tinyvox.importers.torch.cells import CELLS

aten = torch.ops.aten

PACKED_NOTE = "sequences are packed in the source; the model takes each utterance as a whole"


def applied(tape: Tape, target: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What an operator gives, `tape.apply` of what it comes to."""
    if target in _PACKED:
        return _PACKED[target](tape, *args, **kwargs)
    if is_written_out(target):
        return CELLS[operator_name(target)](tape, *args, **kwargs)
    return tape.apply(target, *args, **kwargs)


def is_written_out(target: OpOverload) -> bool:
    """Whether an operator comes to others."""
    return target in _PACKED or operator_name(target) in CELLS


def is_packing(target: OpOverload) -> bool:
    """Whether an operator makes packed data."""
    return target is aten._pack_padded_sequence.default


def _packed(tape: Tape, frames: Any, lengths: Any, batch_first: bool) -> tuple[Any, Any]:
    """`_pack_padded_sequence`: the data, and the number of utterances that have each frame."""
    counts = lengths.tensor if isinstance(lengths, Value) else lengths
    count, batch = (frames.shape[dim] for dim in ((1, 0) if batch_first else (0, 1)))
    if not bool((counts == count).all()):
        raise ImporterError(
            f"packs {count} frames of which the utterances have {counts.tolist()}; "
            "give an example in which every utterance has all frames"
        )
    turned = tape.apply(aten.transpose.int, frames, 0, 1) if batch_first else frames
    data = tape.apply(aten.flatten.using_ints, turned, 0, 1)
    return data, torch.full((count,), batch)


def _padded(
    tape: Tape, data: Any, sizes: Any, batch_first: bool, padding: float, total: int = -1
) -> tuple[Any, Any]:
    """`_pad_packed_sequence`: the frames, and the length of each utterance."""
    frames, lengths = _unpacked(tape, data, sizes), torch.full((int(sizes[0]),), len(sizes))
    if total > len(sizes):
        raise ImporterError(
            f"pads {len(sizes)} frames to {total}; give an example of as many frames"
        )
    turned = tape.apply(aten.transpose.int, frames, 0, 1) if batch_first else frames
    return turned, lengths


def _unpacked(tape: Tape, data: Any, sizes: Any) -> Any:
    """Packed data as [frames, batch, size]."""
    sizes = sizes.tensor if isinstance(sizes, Value) else sizes
    if not bool((sizes == sizes[0]).all()):
        raise ImporterError(
            "takes a packed sequence of utterances of several lengths; "
            "give an example in which every utterance has all frames"
        )
    return tape.apply(aten.unflatten.int, data, 0, [len(sizes), int(sizes[0])])


def _recurrent(padded: OpOverload) -> Callable[..., tuple[Any, ...]]:
    """`lstm.data` and the like: a recurrent layer over packed data."""

    def run(tape: Tape, data: Any, sizes: Any, states: Any, *settings: Any) -> tuple[Any, ...]:
        frames = _unpacked(tape, data, sizes)
        outputs, *finals = tape.apply(padded, frames, states, *settings, False)
        return tape.apply(aten.flatten.using_ints, outputs, 0, 1), *finals

    return run


_PACKED: dict[OpOverload, Callable[..., tuple[Any, ...]]] = {
    aten._pack_padded_sequence.default: _packed,
    aten._pad_packed_sequence.default: _padded,
    aten.lstm.data: _recurrent(aten.lstm.input),
    aten.gru.data: _recurrent(aten.gru.input),
    aten.rnn_tanh.data: _recurrent(aten.rnn_tanh.input),
    aten.rnn_relu.data: _recurrent(aten.rnn_relu.input),
}
"""What takes or makes packed data."""
