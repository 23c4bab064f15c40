"""Training: configuration, batches, the loop, checkpoints."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tinyvox.errors import DataError, FileError, RecipeError
from tinyvox.executor import Executor
from tinyvox.exporters import export_pt2
from tinyvox.model import Model, card_path, groups, save_card
from tinyvox.progress import Progress, Update
from tinyvox.recipe import GradualPruning
from tinyvox.speech import Utterance, read_manifest, write_manifest
from tinyvox.training import (
    Batch,
    Batches,
    Loop,
    Optimization,
    TrainConfig,
    Trainer,
    ctc_loss,
    deepspeech,
    learning_rate,
    load_config,
    load_corpus,
    mask_time,
    product_precision,
    shift_channel,
    train,
)

RATE = 16000


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Two tones, two words: a task that a small network learns in a few steps."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        hz, text = ((300, "a"), (2000, "b"))[i % 2]
        time = np.arange(RATE // 2) / RATE
        audio = 0.3 * np.sin(2 * np.pi * hz * time) + 0.01 * rng.standard_normal(len(time))
        soundfile.write(tmp_path / f"{i}.wav", audio, RATE)
        rows.append(Utterance(tmp_path / f"{i}.wav", 0.5, text, str(i)))
    write_manifest(tmp_path / "set.jsonl", rows)
    document = {
        "model": {"width": 24, "context": 2},
        "tokens": ["a", "b", "<blank>"],
        "data": [{"manifest": "set.jsonl"}],
        "optimization": {"steps": 30, "batch_seconds": 6, "learning_rate": 0.01, "warmup": 3},
        "output": "out.pt2",
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(document))
    return load_config(tmp_path / "train.yaml")


def test_training_needs_transcripts(config: TrainConfig, tmp_path: Path) -> None:
    utterances = read_manifest(tmp_path / "set.jsonl")
    silent = replace(utterances[3], transcript=None, offset=0.1)
    write_manifest(tmp_path / "set.jsonl", [*utterances, silent])
    with pytest.raises(DataError, match=r"set\.jsonl: .*3\.wav has no transcript, which training"):
        train(config)


def test_paths_are_relative_to_the_configuration(config: TrainConfig, tmp_path: Path) -> None:
    assert config.data[0].manifest == tmp_path / "set.jsonl"
    assert config.checkpoints == tmp_path / "checkpoints"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: []\noutput: x\n", "data"),
        ("output: x\n", "data"),
        ("data: [{manifest: a, share: -1}]\noutput: x\n", "share"),
        ("data: [{manifest: a}]\noutput: x\nwidht: 3\n", "widht"),
        ("data: [\n", "x.yaml"),
        (
            "data: [{manifest: a}]\noutput: x\nprune: {keep: 0.5, stop: 2.0}\n",
            "prune.stop.*found 2",
        ),
    ],
)
def test_a_bad_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_config(tmp_path / "x.yaml")


def test_architecture_is_deepspeech(config: TrainConfig) -> None:
    model = deepspeech(
        config.model.model_copy(update={"width": 512, "context": 9}), config.card(), 0
    )
    assert model.signals["context"].size == 19 * 26
    assert [node.name for node in model.nodes if node.layer.matrices()] == [
        "dense1", "dense2", "dense3", "lstm", "dense5", "output",
    ]  # fmt: skip
    # 494*512+512, twice 512*512+512, LSTM 8*512*512+4*512, 512*512+512, output 512*3+3
    assert model.count_parameters() == 253440 + 2 * 262656 + 2099200 + 262656 + 1539


def steps_seen(interrupt_at: int | None = None) -> tuple[list[Update], Progress]:
    """The updates of training steps, and the progress that collects them and may interrupt."""
    seen: list[Update] = []

    def tell(update: Update) -> None:
        if update.stage == "training":
            seen.append(update)
            if update.done == interrupt_at:
                raise KeyboardInterrupt

    return seen, tell


def losses(updates: list[Update]) -> list[float]:
    return [update.best_loss for update in updates if update.best_loss is not None]


def test_training_learns_and_resumes(config: TrainConfig) -> None:
    seen, tell = steps_seen()
    train(config, tell)
    assert [u.done for u in seen] == list(range(1, 31))
    assert all(u.total == 30 for u in seen)
    assert np.mean(losses(seen)[-5:]) < 0.5 * losses(seen)[0]
    log = (config.checkpoints / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in log] == losses(seen)
    longer = config.model_copy(
        update={"optimization": config.optimization.model_copy(update={"steps": 33})}
    )
    more, tell = steps_seen()
    model = train(longer, tell)
    assert [u.done for u in more] == [31, 32, 33]
    assert losses(more)[0] < 0.7 * losses(seen)[0]
    assert model.card is not None
    assert len(model.card.features.mean) == 26


def units(model: Model) -> dict[str, int]:
    return {group.name: group.size for group in groups(model)}


def test_training_prunes_and_resumes(config: TrainConfig) -> None:
    """Half of the LSTM goes between steps 6 and 21, across an interruption at step 12."""
    gone = GradualPruning(
        layers=["lstm", "dense2"], keep=0.5, start=0.2, stop=0.7, every=5, multiple=1
    )
    pruned = config.model_copy(update={"prune": gone})
    seen, tell = steps_seen(interrupt_at=12)
    with pytest.raises(KeyboardInterrupt):
        train(pruned, tell)
    state = torch.load(pruned.checkpoints / "last.pt", weights_only=True)["pruner"]
    assert 12 < int(state["alive"]["lstm"].sum()) < 24
    more, tell = steps_seen()
    model = train(pruned, tell)
    assert [u.done for u in seen + more] == list(range(1, 31))
    assert units(model) == {"dense1": 24, "dense2": 12, "dense3": 24, "lstm": 12, "dense5": 24}
    assert np.mean(losses(more)[-5:]) < 0.5 * losses(seen)[0]
    with pytest.raises(RecipeError, match=r"last\.pt: prune: found the state of .*expected none"):
        train(config)


def test_lasso_is_part_of_what_is_minimized_but_not_of_the_loss_that_is_told(
    config: TrainConfig,
) -> None:
    batch = next(iter(Batches(load_corpus(config), config.card(), 6.0, 0)))
    lasso = GradualPruning(layers="dense2", lasso=10.0, start=0, stop=25, threshold=0.01)
    norms, found = [], []
    for each in (config, config.model_copy(update={"prune": lasso})):
        trainer = Trainer(each, each.card())
        torch.manual_seed(1)
        checkpoint = trainer.checkpoint(each.checkpoints / "last.pt")
        loop = Loop(trainer, each.optimization, checkpoint, save_seconds=60)
        found.append([loop.advance(batch) for _ in range(10)])
        norms.append(
            float(dict(trainer.executor.model().matrices())["dense2.weight"].decode().norm())
        )
    assert found[0][0] == found[1][0]
    assert norms[1] < 0.95 * norms[0]


def test_a_run_that_pruned_nothing_may_prune_later(config: TrainConfig) -> None:
    first = config.optimization.model_copy(update={"steps": 4})
    train(config.model_copy(update={"optimization": first}))
    prune = GradualPruning(layers="lstm", keep=16, start=4, stop=8, every=2)
    longer = config.optimization.model_copy(update={"steps": 9})
    model = train(config.model_copy(update={"optimization": longer, "prune": prune}))
    assert units(model)["lstm"] == 16


def test_a_checkpoint_of_another_architecture_is_an_error(config: TrainConfig) -> None:
    config.checkpoints.mkdir()
    Trainer(config, config.card()).checkpoint(config.checkpoints / "last.pt").save()
    wider = config.model_copy(update={"model": config.model.model_copy(update={"width": 25})})
    with pytest.raises(RecipeError, match="another architecture"):
        train(wider)


@pytest.mark.parametrize("content", [b"something else", b"", None])
def test_a_file_that_is_no_checkpoint_is_an_error(
    config: TrainConfig, content: bytes | None
) -> None:
    config.checkpoints.mkdir()
    path = config.checkpoints / "last.pt"
    if content is None:
        torch.save({"step": 3}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(FileError, match=r"last\.pt: found no checkpoint of a training"):
        train(config)


def same(one: Model, other: Model) -> bool:
    """Whether all tensors are the same, bit for bit."""
    return one.digest() == other.digest() and one.card == other.card


@pytest.mark.parametrize("stops", [(1,), (7, 8, 29)])
def test_what_was_interrupted_ends_as_what_was_not(
    config: TrainConfig, stops: tuple[int, ...], tmp_path: Path
) -> None:
    """With dropout, masks, shifted channels and pruning, and other random numbers in between."""
    options = config.optimization.model_copy(update={"channel_shift": 0.3, "batch_seconds": 1.5})
    prune = GradualPruning(layers="lstm", keep=0.5, start=4, stop=20, every=4, multiple=1)
    config = config.model_copy(update={"optimization": options, "prune": prune})
    undisturbed = train(config.model_copy(update={"checkpoints": tmp_path / "undisturbed"}))
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            train(config, steps_seen(interrupt_at=stop)[1])
        torch.manual_seed(stop)
        np.random.seed(stop)
    assert same(train(config), undisturbed)


@pytest.fixture
def ctrl_c_raises() -> Iterator[None]:
    """As in a terminal: programs that a shell starts in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_raises")
def test_ctrl_c_takes_effect_after_the_step(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    undisturbed = train(config.model_copy(update={"checkpoints": tmp_path / "undisturbed"}))
    loss = Trainer.loss

    def interrupted(trainer: Trainer, batch: Batch) -> torch.Tensor:
        if trainer.pruner.done == 5:
            signal.raise_signal(signal.SIGINT)
        return loss(trainer, batch)

    monkeypatch.setattr(Trainer, "loss", interrupted)
    seen, tell = steps_seen()
    with pytest.raises(KeyboardInterrupt):
        train(config, tell)
    assert len(seen) == 5
    assert torch.load(config.checkpoints / "last.pt", weights_only=True)["step"] == 6
    assert same(train(config), undisturbed)


def test_a_step_that_fails_leaves_the_last_whole_state(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    undisturbed = train(config.model_copy(update={"checkpoints": tmp_path / "undisturbed"}))
    often = config.model_copy(update={"checkpoint_minutes": 1e-9})
    step = torch.optim.AdamW.step

    def failing(optimizer: torch.optim.AdamW, *args: Any) -> Any:
        result = step(optimizer, *args)
        if optimizer.state[next(iter(optimizer.state))]["step"] == 4:
            raise RuntimeError("out of memory")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(often)
    assert torch.load(config.checkpoints / "last.pt", weights_only=True)["step"] == 3
    assert same(train(often), undisturbed)


@pytest.mark.parametrize("taken", [1, 3, 4, 9])
def test_batches_go_on_from_a_position(config: TrainConfig, taken: int) -> None:
    corpus = load_corpus(config)
    whole = list(itertools.islice(Batches(corpus, config.card(), 2.0, 0), taken + 6))
    again = Batches(corpus, config.card(), 2.0, 5, whole[taken - 1].position)
    for expected, batch in zip(whole[taken:], again, strict=False):
        assert torch.equal(batch.features, expected.features)
        assert torch.equal(batch.targets, expected.targets)
        assert batch.position == expected.position


def test_batches_hold_what_ctc_needs(config: TrainConfig) -> None:
    batches = Batches(load_corpus(config), config.card(), 6.0, 0)
    batch = next(iter(batches))
    assert batch.features.shape[0] == len(batch.lengths) == len(batch.target_lengths)
    assert batch.features.shape[1] == -(-int(batch.lengths.max()) // 16) * 16
    assert int(batch.target_lengths.sum()) == len(batch.targets)
    assert int(batch.targets.max()) < config.card().blank


def test_loss_is_torch_ctc_a_token() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(2, 9, 4).log_softmax(-1)
    batch = Batch(
        torch.zeros(2, 9, 1), torch.tensor([9, 7]), torch.tensor([0, 1, 2]), torch.tensor([2, 1])
    )
    module = torch.nn.CTCLoss(blank=3, reduction="none")
    each = module(log_probs.transpose(0, 1), batch.targets, batch.lengths, batch.target_lengths)
    assert float(ctc_loss(log_probs, batch.lengths, batch, 3)) == pytest.approx(
        float(each.sum()) / 3
    )


def test_rate_warms_up_and_falls_to_nothing() -> None:
    schedule = Optimization(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(step, schedule) for step in range(101)]
    assert rates[9] == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_the_channel_shifts_each_feature_of_an_utterance_by_a_constant() -> None:
    features = torch.randn(40, 9, 50)
    shift = shift_channel(features, 0.5, torch.Generator().manual_seed(1)) - features
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-5)
    assert float(shift[:, 0].std()) == pytest.approx(0.5, rel=0.1)
    assert torch.equal(shift_channel(features, 0.0, torch.Generator()), features)


def test_masks_zero_whole_frames() -> None:
    features = torch.ones(4, 50, 3)
    masked = mask_time(features, 2, 8, torch.Generator().manual_seed(1))
    gone = (masked == 0).all(dim=2)
    assert bool(((masked == 0).any(dim=2) == gone).all())
    assert 0 < int(gone.sum()) <= 4 * 16


def test_dropout_acts_in_training_alone(config: TrainConfig) -> None:
    executor = Executor(deepspeech(config.model, config.card(), 0))
    executor.dropout = 0.5
    x = torch.randn(1, 20, 26)
    assert not torch.equal(executor.train()(x), executor(x))
    assert torch.equal(executor.eval()(x), executor(x))


def test_dropout_drops_a_unit_in_all_frames_of_an_utterance(config: TrainConfig) -> None:
    executor = Executor(deepspeech(config.model, config.card(), 0))
    executor.dropout = 0.5
    dropped = executor._drop(torch.ones(3, 20, 400)) == 0
    assert bool((dropped == dropped[:, :1]).all())
    assert not torch.equal(dropped[0], dropped[1])
    assert 0.4 < float(dropped.float().mean()) < 0.6


def test_precision_is_what_the_processor_multiplies() -> None:
    cpu = torch.device("cpu")
    fast = torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert product_precision("auto", cpu) == (torch.bfloat16 if fast else torch.float32)
    assert product_precision("float32", cpu) == torch.float32
    assert product_precision("auto", torch.device("cuda")) == torch.bfloat16


def test_the_rate_begins_anew_at_a_restart() -> None:
    options = Optimization(steps=100, restarts=(60,), warmup=10, learning_rate=1.0)
    rates = [learning_rate(step, options) for step in range(100)]
    assert rates[9] == rates[69] == 1.0
    assert rates[59] < 0.01 < 0.05 < rates[60] < 0.2
    assert rates[99] < 0.01
    assert rates[10:60] == sorted(rates[10:60], reverse=True)


def test_training_begins_with_another_model(config: TrainConfig, tmp_path: Path) -> None:
    model = train(config)
    assert model.card is not None
    export_pt2(model, tmp_path / "start.pt2")
    options = config.optimization.model_copy(update={"steps": 1, "learning_rate": 1e-9})
    update = {
        "init": tmp_path / "start.pt2",
        "checkpoints": tmp_path / "other",
        "optimization": options,
    }
    with pytest.raises(RecipeError, match="no speech card"):
        train(config.model_copy(update=update))
    save_card(model.card, card_path(tmp_path / "start.pt2"))
    again = train(config.model_copy(update=update))
    for (_, one), (_, other) in zip(model.matrices(), again.matrices(), strict=True):
        torch.testing.assert_close(one.decode(), other.decode(), atol=1e-6, rtol=1e-4)
    wider = config.model.model_copy(update={"width": 25})
    with pytest.raises(RecipeError, match="of another architecture"):
        train(config.model_copy(update={**update, "model": wider, "checkpoints": tmp_path / "x"}))


def with_options(config: TrainConfig, **changes: object) -> TrainConfig:
    options = config.optimization.model_copy(update=changes)
    return config.model_copy(update={"optimization": options})


@pytest.mark.parametrize("what", ["loss", "gradients"])
def test_what_is_not_finite_stops_at_once_and_names_the_files(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    """The checkpoint before it is as it was, and the run goes on from there."""
    undisturbed = train(config.model_copy(update={"checkpoints": tmp_path / "undisturbed"}))
    often = config.model_copy(update={"checkpoint_minutes": 1e-9})
    loss = Trainer.loss

    def faulty(trainer: Trainer, batch: Batch) -> torch.Tensor:
        found = loss(trainer, batch)
        if trainer.pruner.done == 4:
            wrong = found * float("nan")
            # gradients alone: the square root of 0 has none
            return wrong if what == "loss" else found + (found - found).sqrt()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "loss", faulty)
        with pytest.raises(
            DataError, match=r"step 5: the .* is nan, .*: .*\d\.wav, .*\.wav"
        ) as error:
            train(often)
    assert what in str(error.value)
    assert "\n" not in str(error.value)
    assert torch.load(config.checkpoints / "last.pt", weights_only=True)["step"] == 4
    assert same(train(often), undisturbed)


def test_a_checkpoint_of_another_model_in_the_same_folder_is_an_error(config: TrainConfig) -> None:
    train(with_options(config, steps=2))
    other = config.model_copy(update={"output": config.output.with_name("other.pt2")})
    with pytest.raises(
        RecipeError, match=r"no checkpoint of the training of other\.pt2; set another"
    ):
        train(other)


def test_the_log_has_one_line_a_step_after_a_kill(config: TrainConfig) -> None:
    train(with_options(config, steps=4))
    log = config.checkpoints / "log.jsonl"
    text = log.read_text()
    log.write_text(text + '{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
    train(with_options(config, steps=6))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    assert log.read_text().startswith(text)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_says_what_is_kept(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = config.model_copy(update={"checkpoint_minutes": 1e-9})
    save, full = torch.save, []

    def failing(state: dict[str, Any], file: Any) -> None:
        save(state, file)
        if state["step"] == 3 or full:
            full.append(state["step"])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", failing)
    message = r"last\.pt: cannot be written: No space left on device; .* that of step 2 is kept"
    with pytest.raises(FileError, match=message):
        train(often)
    assert full == [3], "it was tried again"
    assert torch.load(config.checkpoints / "last.pt", weights_only=True)["step"] == 2


def test_ctrl_c_says_what_is_kept(config: TrainConfig) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"last\.pt has the state of step 3; the same call"):
        train(config, steps_seen(interrupt_at=3)[1])


RANGES = [
    ("augment: {speed: [1.2, 0.8]}", "augment.speed: found"),
    ("augment: {speed: [0, 0]}", "augment.speed.1: found 0"),
    ("augment: {speed: [.inf, .inf]}", "augment.speed.1: found inf"),
    ("augment: {speed: [1.0]}", "augment.speed"),
    ("augment: {gain_db: [3, -3]}", "augment.gain_db: found"),
    ("augment: {gain_db: [.nan, 3]}", "augment.gain_db.1: found nan"),
    ("augment: {pad: [-0.3, -0.1]}", "augment.pad.1: found -0.3"),
    ("augment: {pad: [0.3, 0.0]}", "augment.pad: found"),
    ("augment: {noise_snr_db: [9, 3]}", "augment.noise_snr_db: found"),
    ("augment: {noise_share: .nan}", "augment.noise_share: found nan"),
    ("optimization: {learning_rate: .inf}", "learning_rate: found inf"),
    ("optimization: {learning_rate: 0}", "learning_rate: found 0"),
    ("optimization: {batch_seconds: .nan}", "batch_seconds: found nan"),
    ("optimization: {seed: -1}", "seed: found -1"),
    ("optimization: {restarts: [20, 10]}", r"restarts are \[20, 10\]"),
    ("optimization: {dropout: 1.0}", "dropout: found 1.0"),
    ("model: {width: 0}", "model.width: found 0"),
    ("model: {clip: .nan}", "model.clip: found nan"),
    ("checkpoint_minutes: .inf", "checkpoint_minutes: found inf"),
    ("tokens: []", "tokens: found"),
    ("tokens: [a, b, a, _]", "tokens have 'a' twice"),
]


@pytest.mark.parametrize(("line", "message"), RANGES)
def test_a_range_that_cannot_be_is_refused_on_reading(
    tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "x.yaml").write_text(f"data: [{{manifest: a}}]\noutput: x.pt2\n{line}\n")
    with pytest.raises(RecipeError, match=message) as error:
        load_config(tmp_path / "x.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "join", ["count: [5, 2]", "count: [0, 0]", "silence: [0.3, 0.1]", "silence: [-1, 1]"]
)
def test_joins_that_cannot_be_are_refused_on_reading(tmp_path: Path, join: str) -> None:
    text = f"data: [{{manifest: a, join: {{{join}}}}}]\noutput: x.pt2\n"
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RecipeError, match=rf"data\.1\.join\.{join.split(':')[0]}"):
        load_config(tmp_path / "x.yaml")
