"""One network of Coqui STT's trainer in all its files: they are one model.

`make_fixtures.py` made the files; `expected.npz` is what TensorFlow gave.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tf_files import message, table

import tinyvox as tv
from tinyvox.errors import FileError, ImporterError
from tinyvox.importers import bytes_on_disk, load, model_files
from tinyvox.importers.tf_checkpoint.table import entries
from tinyvox.model import Coded, Model, layers

FIXTURES = Path(__file__).parent / "fixtures"
EXACT = ("graph.pb", "graph.pbmm", "float.tflite", "train-40.index", "")
INDEX = "train-40.index"


def outputs(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """The log-probabilities of a model, and those of TensorFlow."""
    expected = np.load(FIXTURES / "expected.npz")
    features = torch.from_numpy(expected["features"])[None]
    with torch.no_grad():
        found = tv.Executor(model)(features)[0].numpy()
    return found, np.log(expected["probabilities"])


@pytest.mark.parametrize("name", EXACT)
def test_every_file_gives_what_tensorflow_gives(name: str) -> None:
    found, expected = outputs(load(FIXTURES / name))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", EXACT[:-1])
def test_every_file_has_the_same_weights_and_card(name: str) -> None:
    model, other = load(FIXTURES / name), load(FIXTURES / INDEX)
    pairs = zip(model.matrices(), other.matrices(), strict=True)
    assert all(torch.equal(one.decode(), two.decode()) for (_, one), (_, two) in pairs)
    assert model.card == other.card


def test_the_layers_are_those_of_the_network() -> None:
    kinds = [type(node.layer) for node in load(FIXTURES / "graph.pb").nodes]
    dense = [layers.Linear, layers.Activation]
    expected = [layers.ContextWindow, *dense * 3, layers.Recurrent, *dense, layers.Linear]
    assert kinds == [*expected, layers.LogSoftmax]
    named = [n.name for n in load(FIXTURES / "graph.pb").nodes if n.layer.matrices()]
    assert named == ["layer_1", "layer_2", "layer_3", "cudnn_lstm", "layer_5", "layer_6"]


def test_the_card_has_alphabet_and_features() -> None:
    card = load(FIXTURES / "graph.pbmm").card
    assert card is not None
    assert card.tokens == (*" abcdefghijklmnopqrstuvwxyz", "<blank>")
    assert card.blank == 27
    features = card.features
    assert (features.kind, features.sample_rate) == ("deepspeech_mfcc", 16000)
    assert (features.window_ms, features.hop_ms, features.coefficients) == (32, 20, 26)


def test_the_quantized_file_keeps_its_codes() -> None:
    model = load(FIXTURES / "int8.tflite")
    whole = [name for name, matrix in model.matrices() if not isinstance(matrix, Coded)]
    assert whole == ["layer_6.weight"]  # TensorFlow leaves matrices below 1024 values as they are
    assert model.provenance["quantized"]
    found, expected = outputs(model)
    assert np.abs(np.exp(found) - np.exp(expected)).max() < 0.02


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the checkpoint's folder."""
    for name in ("checkpoint", "alphabet.txt", INDEX, "train-40.data-00000-of-00001"):
        shutil.copy(FIXTURES / name, tmp_path / name)
    return tmp_path


def test_without_an_alphabet_a_checkpoint_has_no_card(checkpoint: Path) -> None:
    (checkpoint / "alphabet.txt").unlink()
    model = load(checkpoint / INDEX)
    assert model.card is None
    assert "no speech card" in model.provenance["import_notes"][0]


def test_flags_say_how_features_are_computed(checkpoint: Path) -> None:
    (checkpoint / "flags.txt").write_text('{"audio_sample_rate": 8000,\n "feature_win_len": 40}')
    card = load(checkpoint).card
    assert card is not None
    assert (card.features.sample_rate, card.features.window_ms) == (8000, 40)
    (checkpoint / "flags.txt").write_text("--audio_sample_rate=8000\n--relu_clip=10.0\n")
    model = load(checkpoint)
    assert model.card is not None
    assert model.card.features.sample_rate == 8000
    assert {n.layer.limit for n in model.nodes if isinstance(n.layer, layers.Activation)} == {10.0}


def test_remarks_and_escapes_in_an_alphabet(checkpoint: Path) -> None:
    letters = [*" abcdefghijklmnopqrstuvwxy", "\\#"]
    text = "# a remark\r\n" + "\r\n".join(letters) + "\r\n# end"
    (checkpoint / "alphabet.txt").write_bytes(text.encode())
    card = load(checkpoint).card
    assert card is not None
    assert card.tokens[-2] == "#"


def test_other_parts_of_a_checkpoint_lead_to_its_index(checkpoint: Path) -> None:
    with pytest.raises(ImporterError, match=r"give the path of train-40\.index"):
        load(checkpoint / "train-40.data-00000-of-00001")
    (checkpoint / "checkpoint").unlink()
    with pytest.raises(FileError, match=r"give the path of train-40\.index"):
        load(checkpoint)


def test_all_files_of_a_checkpoint_are_counted() -> None:
    expected = sum(path.stat().st_size for path in FIXTURES.glob("train-40.*"))
    assert bytes_on_disk(FIXTURES) == bytes_on_disk(FIXTURES / INDEX) == expected
    named = {path.name for path in model_files(FIXTURES / INDEX)}
    assert named == {path.name for path in FIXTURES.glob("train-40.*")} | {"alphabet.txt"}


def rewritten(folder: Path, change: object, kind: int = 0) -> Path:
    """The index with its entries changed."""
    path = folder / INDEX
    pairs = dict(entries(memoryview(path.read_bytes())))
    assert callable(change)
    change(pairs)
    path.write_bytes(table(sorted(pairs.items()), kind))
    return path


def renamed(**names: str) -> object:
    def change(pairs: dict[bytes, bytes]) -> None:
        for old, new in names.items():
            key = old.replace("__", "/").encode()
            pairs[new.encode()] = pairs.pop(key)

    return change


def test_a_packed_index_is_read(checkpoint: Path) -> None:
    found, expected = outputs(load(rewritten(checkpoint, lambda pairs: None, kind=1)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_short_names_of_old_versions_are_known(checkpoint: Path) -> None:
    names = {f"layer_{i}__{long}": f"{short}{i}" for i in (1, 2, 3, 5, 6)
             for long, short in (("weights", "h"), ("bias", "b"))}  # fmt: skip
    found, expected = outputs(load(rewritten(checkpoint, renamed(**names))))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_fused_cell_of_old_versions_adds_one_to_its_forget_gate(checkpoint: Path) -> None:
    known = load(checkpoint).node("lstm").layer
    inside = "cudnn_lstm__rnn__multi_rnn_cell__cell_0__cudnn_compatible_lstm_cell"
    names = {f"{inside}__{part}": f"lstm_fused_cell/{part}" for part in ("kernel", "bias")}
    found = load(rewritten(checkpoint, renamed(**names))).node("lstm").layer
    assert isinstance(known, layers.Recurrent)
    assert isinstance(found, layers.Recurrent)
    one, two = known.cells()["forward"].bias, found.cells()["forward"].bias
    assert one is not None
    assert two is not None
    added = (two - one).reshape(4, -1)
    torch.testing.assert_close(added, torch.tensor([[0.0], [1], [0], [0]]).expand_as(added))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "train-40.data-00000-of-00001").unlink(), "is missing, in which"),
        (lambda f: _spoil(f / "train-40.data-00000-of-00001", 300_000), "are damaged; copy it"),
        (lambda f: _cut(f / "train-40.data-00000-of-00001"), "ends before"),
        (lambda f: _spoil(f / INDEX, 50), "checksum of the block"),
        (lambda f: _cut(f / INDEX), "is no checkpoint index"),
        (lambda f: (f / "alphabet.txt").write_text("a\nb\n"), "has 2 labels, expected 27"),
        (lambda f: rewritten(f, renamed(layer_5__bias="other")), "is no checkpoint of DeepSpeech"),
        (lambda f: rewritten(f, lambda p: p.update({b"layer_1/gamma": p[b"layer_1/bias"]})),
         "variables that are not understood: layer_1/gamma"),
        (lambda f: rewritten(f, lambda p: p.update({b"": message((1, 0), (2, 1))})), "big-endian"),
    ],
)  # fmt: skip
def test_damage_is_said_in_one_line(spoil: object, said: str, checkpoint: Path) -> None:
    assert callable(spoil)
    spoil(checkpoint)
    with pytest.raises(ImporterError, match=said) as caught:
        load(checkpoint / INDEX)
    assert str(caught.value).startswith(f"{checkpoint / INDEX}: ")
    assert "\n" not in str(caught.value)


def _spoil(path: Path, place: int) -> None:
    """One byte changed, which every variable of the network may hold."""
    held = bytearray(path.read_bytes())
    for at in range(place % 997, len(held) - 60, 997) if len(held) > 5000 else [place]:
        held[at] ^= 255
    path.write_bytes(bytes(held))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_folder_names_its_checkpoint(checkpoint: Path) -> None:
    (checkpoint / "best_dev_checkpoint").write_text('model_checkpoint_path: "C:\\\\x\\\\best-7"\n')
    with pytest.raises(FileError, match=r"best-7\.index: no such file, though best_dev_checkpoint"):
        load(checkpoint)
    for path in list(checkpoint.glob("train-40.*")):
        path.rename(path.with_name(path.name.replace("train-40", "best-7")))
    assert load(checkpoint).provenance["source"] == "best-7.index"
    (checkpoint / "best_dev_checkpoint").write_text("something else")
    with pytest.raises(FileError, match="names no checkpoint"):
        load(checkpoint)
