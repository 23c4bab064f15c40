"""Packed sequences, lengths and masks by length: of utterances with all frames they are nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from packed_modules import BANDS, DeepSpeech2, OnPackedData, Pyramid
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from torch_modules import FEATURES, FRAMES, _disturb, speech

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.importers.torch import from_torch
from tinyvox.importers.torch.writing_out import PACKED_NOTE

LENGTHS = "input 'lengths' is taken to be the number of frames"


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_deep_speech_2_as_published(kind: type[nn.RNNBase], both: bool) -> None:
    module = DeepSpeech2(kind, hidden=6, layers=3, both=both).eval()
    _disturb(module)
    model = from_torch(module, torch.randn(2, 1, BANDS, 24), torch.tensor([24, 17]))
    assert model.provenance["import_notes"] == [LENGTHS, PACKED_NOTE, "outputs left out: 1"]
    assert "fixed_frames" not in model.provenance
    for frames in (24, 33, 90):
        x = torch.randn(1, 1, BANDS, frames)
        with torch.no_grad():
            expected, _ = module(x, torch.tensor([frames]))
            found = Executor(model)(x[:, 0].transpose(1, 2))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_pyramid_of_packed_layers(batch: int) -> None:
    module = Pyramid(FEATURES).eval()
    model = from_torch(module, speech(batch=batch), torch.full((batch,), FRAMES))
    same(model, module, lengths=True)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_layers_on_packed_data(batch: int, batch_first: bool) -> None:
    module = OnPackedData(FEATURES, batch_first).eval()
    lengths = torch.tensor([FRAMES, 4, 7][:batch])
    model = from_torch(module, speech(batch=batch), lengths)
    assert PACKED_NOTE in model.provenance["import_notes"]
    same(model, module, lengths=True)


def same(model: Any, module: nn.Module, lengths: bool = False) -> None:
    """Model and module agree for several numbers of frames."""
    for frames in (FRAMES, 14, 51):
        x = speech(frames, 2)
        given = (x, torch.tensor([frames, frames])) if lengths else (x,)
        with torch.no_grad():
            expected = module(*given)
            found = Executor(model)(x)
        expected = expected[0] if isinstance(expected, tuple) else expected
        torch.testing.assert_close(found, expected)


class Masked(nn.Module):
    """An LSTM, and a function of its outputs and of the lengths."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 5, batch_first=True)
        self.function = function

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.function(self.rnn(x)[0], lengths)


def valid(x: Tensor, lengths: Tensor) -> Tensor:
    """Which frames are in each utterance, [batch, frames, 1]."""
    return (torch.arange(x.shape[1])[None] < lengths[:, None])[..., None]


def filled_by_rows(x: Tensor, lengths: Tensor) -> Tensor:
    mask = torch.ones(x.shape[0], int(max(lengths)), dtype=torch.bool)
    for i, length in enumerate(lengths):
        mask[i, :length] = False
    return x.masked_fill(mask[:, :, None], 0.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, n: x * valid(x, n),
        lambda x, n: x * valid(x, n).float(),
        lambda x, n: x.masked_fill(~valid(x, n), 0.0),
        lambda x, n: x.masked_fill_(~valid(x, n), 0.0),
        lambda x, n: torch.where(valid(x, n), x, torch.zeros(())),
        lambda x, n: torch.where(~valid(x, n), torch.zeros(()), x),
        lambda x, n: x[torch.argsort(n, descending=True, stable=True)],
        lambda x, n: x.index_select(0, torch.sort(n, descending=True, stable=True)[1]),
        lambda x, n: x[:, : int(n.max())],
        filled_by_rows,
    ],
)
def test_masks_by_length(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    module = Masked(function).eval()
    model = from_torch(module, speech(), torch.tensor([FRAMES, 3]))
    assert model.provenance["import_notes"] == [LENGTHS]
    assert [node.name for node in model.nodes] == ["rnn"]
    same(model, module, lengths=True)


@pytest.mark.parametrize("kind", [torch.bool, torch.float32, torch.int64])
def test_masks_as_inputs(kind: torch.dtype) -> None:
    module = Masked(lambda x, mask: x * mask[..., None]).eval()
    model = from_torch(module, speech(), torch.ones(2, FRAMES, dtype=kind))
    notes = ["input 'lengths' is taken to be as in the example"]
    assert model.provenance["import_notes"] == notes
    assert "fixed_frames" not in model.provenance


def test_lengths_relative_to_the_longest() -> None:
    module = Masked(lambda x, n: x * valid(x, torch.round(n * x.shape[1]))).eval()
    model = from_torch(module, speech(), torch.tensor([1.0, 0.4]))
    assert "fixed_frames" not in model.provenance


def test_a_packed_sequence_as_example_and_output() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(FEATURES, 5)

        def forward(self, x: PackedSequence) -> PackedSequence:
            return self.rnn(x)[0]

    module = Packed().eval()
    model = from_torch(module, pack_sequence([speech()[0]]))
    x = speech(30, 1)
    with torch.no_grad():
        torch.testing.assert_close(Executor(model)(x)[0], module(pack_sequence([x[0]])).data)


def test_the_final_state_after_a_packed_sequence() -> None:
    class Final(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(FEATURES, 5, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            hidden = self.rnn(packed)[1]
            return torch.cat((hidden[-2], hidden[-1]), dim=1)

    module = Final().eval()
    model = from_torch(module, speech(), torch.tensor([FRAMES, FRAMES]))
    x = speech(30)
    with torch.no_grad():
        torch.testing.assert_close(Executor(model)(x)[:, 0], module(x, torch.tensor([30, 30])))


@pytest.mark.parametrize(
    ("module", "lengths", "message"),
    [
        (Pyramid(FEATURES), 5, r"packs 9 frames of which the utterances have \[5, 5\]; give an"),
        (Masked(lambda x, n: x * valid(x, n)), 5, "a constant that varies over time"),
        (Masked(lambda x, n: x.masked_fill(~valid(x, n), 0)), 5, "in which every utterance has"),
        (
            Masked(lambda x, n: torch.where(valid(x, n), x, torch.ones(()))),
            5,
            "takes a part of its values, by a mask; give an example in which every",
        ),
        (Masked(lambda x, n: x[torch.tensor([1, 0])]), FRAMES, "along dimension 0 of .batch 2, "),
        (Masked(lambda x, n: x.masked_fill(x > 0, 0)), FRAMES, "is not supported|depends on the"),
    ],
)
def test_utterances_without_all_frames_are_refused(
    module: nn.Module, lengths: int, message: str
) -> None:
    with pytest.raises(ImporterError, match=message) as caught:
        from_torch(module, speech(), torch.full((2,), lengths))
    assert "\n" not in str(caught.value)


def test_more_frames_than_there_are_is_refused() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(FEATURES, 5, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, lengths, batch_first=True)
            padded = nn.utils.rnn.pad_packed_sequence
            return padded(self.rnn(packed)[0], batch_first=True, total_length=20)[0]

    with pytest.raises(ImporterError, match="pads 9 frames to 20; give an example of as many"):
        from_torch(Padded(), speech(), torch.tensor([FRAMES, FRAMES]))
