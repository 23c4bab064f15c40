"""What a module is called with, and what it gives: states, several inputs, several outputs."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch_modules import FEATURES, FRAMES, assert_same, speech

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.importers import load
from tinyvox.importers.torch import from_torch
from tinyvox.model import Model

HIDDEN = 5


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


class OneState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(FEATURES, HIDDEN, 2, batch_first=True)
        self.out = nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, hidden = self.rnn(x, hidden)
        return self.out(x), hidden

    def states(self) -> Any:
        return torch.randn(2, 1, HIDDEN)


class TwoStates(OneState):
    """An LSTM, which comes first of the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, HIDDEN, batch_first=True)  # type: ignore[assignment]

    def forward(self, x: Tensor, state: Any = None) -> Any:
        x, state = self.rnn(x, state)
        return {"state": state, "logits": self.out(x)}

    def states(self) -> Any:
        return torch.randn(1, 1, HIDDEN), torch.randn(1, 1, HIDDEN)


class StatesInOne(OneState):
    """Two LSTMs whose states are slices of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.rnns = nn.ModuleList(
            nn.LSTM(size, HIDDEN, batch_first=True) for size in (FEATURES, HIDDEN)
        )

    def forward(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        after = []
        for i, rnn in enumerate(self.rnns):
            x, pair = rnn(x, (states[None, :, 2 * i], states[None, :, 2 * i + 1]))
            after += pair
        return torch.sigmoid(self.out(x)), torch.cat(after).transpose(0, 1)

    def states(self) -> Any:
        return torch.randn(1, 4, HIDDEN)


def outputs_and_states(module: nn.Module, x: Tensor, states: Any) -> tuple[Tensor, Any]:
    found = module(x, states)
    return (found["logits"], found["state"]) if isinstance(found, dict) else found


@pytest.mark.parametrize("frames", [1, FRAMES])
@pytest.mark.parametrize("kind", [OneState, TwoStates, StatesInOne])
def test_states_become_those_of_the_layers(kind: type[OneState], frames: int) -> None:
    module = kind().eval()
    model = from_torch(module, speech(frames, 1), module.states())
    (note,) = model.provenance["import_notes"]
    assert note.startswith("the states in ")
    assert note.endswith(" are those of the recurrent layers, kept by the model")
    x, parts = speech(23, 1), []
    states = torch.utils._pytree.tree_map(torch.zeros_like, module.states())
    with torch.no_grad():
        for frame in x.split(1, dim=1):
            part, states = outputs_and_states(module, frame, states)
            parts.append(part)
        torch.testing.assert_close(Executor(model)(x), torch.cat(parts, dim=1))


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
def test_states_of_a_program(tmp_path: Path) -> None:
    module = OneState().eval()
    program = torch.export.export(module, (speech(batch=1), module.states()))
    torch.export.save(program, tmp_path / "states.pt2")
    model = load(tmp_path / "states.pt2")
    assert "the states in hidden are" in model.provenance["import_notes"][0]
    x = speech(30, 1)
    torch.testing.assert_close(Executor(model)(x), module(x)[0])


def test_states_that_are_not_given_are_zeros() -> None:
    module = OneState().eval()
    model = from_torch(module, speech())
    assert model.provenance["import_notes"] == ["outputs left out: 1"]


class Both(nn.Module):
    """Two dense layers, and what a function makes of their outputs."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any] = lambda a, b: (a, b)) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(FEATURES, 3), nn.Linear(FEATURES, 4)
        self.function = function

    def forward(self, x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Any:
        return self.function(self.one(x) * scale, self.two(x))


@dataclasses.dataclass
class Outputs:
    loss: Tensor | None
    logits: Tensor
    hidden: list[Tensor]


class Named(NamedTuple):
    first: Tensor
    second: Tensor


@pytest.mark.parametrize(
    ("function", "output", "size", "left"),
    [
        (lambda a, b: (a, b), None, 3, "1"),
        (lambda a, b: [a, (b, a)], "1.0", 4, "0, 1.1"),
        (lambda a, b: {"logits": b, "aside": a}, None, 4, "aside"),
        (lambda a, b: OrderedDict(logits=b, aside=[a]), "aside.0", 3, "logits"),
        (lambda a, b: Outputs(None, b, [a]), None, 4, "hidden.0"),
        (lambda a, b: Named(a, b), "second", 4, "first"),
        (lambda a, b: (a, b), 1, 4, "0"),
        (lambda a, b: (torch.tensor(3), b), None, 4, "0"),
    ],
)
def test_the_first_signal_or_the_one_that_is_wanted(
    function: Callable[[Tensor, Tensor], Any], output: str | int | None, size: int, left: str
) -> None:
    module = Both(function).eval()
    model = from_torch(module, speech(), output=output)
    assert model.provenance["import_notes"] == [f"outputs left out: {left}"]
    layer = module.one if size == 3 else module.two
    assert_same(model, layer, 4, 30)


@pytest.mark.parametrize(
    ("function", "output", "message"),
    [
        (lambda a, b: (a, b), "logits", "has no output 'logits' that is a signal; .* are: 0, 1"),
        (lambda a, b: (a, torch.ones(3)), 1, "has no output 1 that is a signal; its .* are: 0"),
        (lambda a, b: torch.ones(3), None, "returns a constant"),
        (lambda a, b: None, None, "returns a constant"),
    ],
)
def test_outputs_that_are_not_there(
    function: Callable[[Tensor, Tensor], Any], output: str | int | None, message: str
) -> None:
    with pytest.raises(ImporterError, match=message):
        from_torch(Both(function), speech(), output=output)


MASK = torch.ones(2, FRAMES)


@pytest.mark.parametrize(
    "call",
    [
        lambda module: from_torch(module, speech(), 2.0, MASK),
        lambda module: from_torch(module, (speech(), 2.0, MASK)),
        lambda module: from_torch(module, [speech(), 2.0, MASK]),
        lambda module: from_torch(module, {"x": speech(), "scale": 2.0, "mask": MASK}),
        lambda module: from_torch(module, x=speech(), scale=2.0, mask=MASK),
        lambda module: from_torch(module, speech(), scale=2.0, mask=MASK),
        lambda module: from_torch(module, (speech(),), scale=2.0, mask=MASK),
    ],
)
def test_examples_in_every_form(call: Callable[[nn.Module], Model]) -> None:
    module = Both(lambda a, b: a)
    model = call(module)
    assert model.provenance["unused_inputs"] == ["mask"]
    x = speech(30)
    torch.testing.assert_close(Executor(model)(x), 2 * module.one(x))


def test_a_dictionary_that_is_the_only_argument() -> None:
    class Batch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(FEATURES, 3)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.out(batch["features"])

    model = from_torch(Batch(), {"features": speech(), "lengths": torch.tensor([FRAMES, 3])})
    assert model.provenance["unused_inputs"] == ["batch.lengths"]


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (nn.Bilinear(FEATURES, FEATURES, 3), (speech(), speech()), "needs inputs input1, input2"),
        (OneState(), (), "has no example; give an input for it"),
        (
            nn.Flatten(),
            (torch.ones(2, 9).int(),),
            "the example holds input of torch.int32, expected features",
        ),
    ],
)
def test_inputs_that_do_not_do(
    module: nn.Module, example: tuple[Tensor, ...], message: str
) -> None:
    with pytest.raises(ImporterError, match=message) as caught:
        from_torch(module, *example)
    assert "\n" not in str(caught.value)


def test_states_that_are_changed_on_the_way_are_refused() -> None:
    class Doubled(OneState):
        def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x, hidden = super().forward(x, hidden)
            return x, hidden * 2

    module = Doubled()
    with pytest.raises(ImporterError, match=r"takes states \(hidden\) and does not give them"):
        from_torch(module, speech(batch=1), module.states())


def test_a_waveform_is_refused_where_its_spectrum_is_computed() -> None:
    class Front(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(17, 3)

        def forward(self, wave: Tensor) -> Tensor:
            window = torch.hann_window(32)
            spectrum = torch.stft(wave, 32, 16, window=window, return_complex=True)
            return self.out(spectrum.abs().transpose(1, 2))

    with pytest.raises(
        ImporterError,
        match=r"aten\.stft.*\(at test_inputs_and_outputs\.py:\d+\): computes a spectrum, .*; "
        "import the part of the module after this line",
    ):
        from_torch(Front(), torch.randn(1, 400))


def test_a_module_that_pads_short_inputs_is_taken_and_said() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(FEATURES, 6, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            frames = x.shape[1]
            if frames < 16:
                x = torch.nn.functional.pad(x, (0, 0, 0, 16 - frames))
            return self.rnn(x)[0][:, :frames]

    notes = from_torch(Padded().eval(), torch.randn(1, 40, FEATURES)).provenance["import_notes"]
    assert notes == ["with 10 frames the module does something else than with more"]
