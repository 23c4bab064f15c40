"""`tune_weights` on the bundled model: the file that it writes, and what a stop leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tinyvox as tv
from tinyvox.errors import DataError
from tinyvox.formats.tvlm import save_ngrams
from tinyvox.lm import estimate
from tinyvox.progress import Update
from tinyvox.workflow import evaluate, tune_weights, weights

pytestmark = pytest.mark.runtime

COMMANDS = Path(__file__).resolve().parents[2] / "models" / "commands"
MODEL, DATA = COMMANDS / "commands-60x.tvx", COMMANDS / "clips" / "manifest.jsonl"


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    path = tmp_path / "commands.tvlm"
    texts = [json.loads(line)["text"] for line in DATA.read_text().splitlines()]
    save_ngrams(estimate(texts, 2), path, {"made": "here"})
    return path


def test_the_file_has_the_weights_and_decoding_takes_them(lm: Path, tmp_path: Path) -> None:
    found = tune_weights(MODEL, lm, DATA, output=lm, trials=6, cache=tmp_path)
    best = found.weighed.best
    assert tv.LanguageModel(lm).weights == pytest.approx((best.alpha, best.beta))
    facts = found.summary()
    assert evaluate(MODEL, DATA, lm=lm).wer == pytest.approx(facts["wer"])
    search = tv.open(MODEL).search(lm)
    assert (search.alpha, search.beta) == pytest.approx((best.alpha, best.beta))
    assert facts["wer"] <= facts["before"]["wer"]
    assert facts["utterances"] == len(DATA.read_text().splitlines())
    assert list((tmp_path / "weights").iterdir()) == []


def test_after_a_stop_the_same_call_goes_on(
    lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tune_weights(MODEL, lm, DATA, trials=6, cache=tmp_path)

    def stop(update: Update) -> None:
        if update.stage.startswith("searching") and update.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"4 pairs of alpha and beta were tried and are"):
        tune_weights(MODEL, lm, DATA, trials=6, cache=tmp_path, progress=stop)
    assert len(list((tmp_path / "weights").iterdir())) == 2

    def again(*_: object) -> None:
        raise AssertionError("the acoustic model runs again")

    monkeypatch.setattr(weights, "hear", again)
    assert tune_weights(MODEL, lm, DATA, trials=6, cache=tmp_path) == expected


def test_a_line_that_a_stop_has_torn_is_left_out(lm: Path, tmp_path: Path) -> None:
    expected = tune_weights(MODEL, lm, DATA, trials=6, cache=tmp_path)

    def stop_at(done: int) -> Callable[[Update], None]:
        def stop(update: Update) -> None:
            if update.stage.startswith("searching") and update.done == done:
                raise KeyboardInterrupt

        return stop

    for done in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            tune_weights(MODEL, lm, DATA, trials=6, cache=tmp_path, progress=stop_at(done))
        (kept,) = (tmp_path / "weights").glob("*.jsonl")
        with kept.open("a") as file:
            file.write('{"alpha": 0.')
    assert tune_weights(MODEL, lm, DATA, trials=6, cache=tmp_path) == expected


def test_a_manifest_without_transcripts_is_refused(lm: Path, tmp_path: Path) -> None:
    path = tmp_path / "silent.jsonl"
    clip = {"audio_filepath": str(COMMANDS / "clips" / "00.opus"), "duration": 2.3}
    path.write_text(json.dumps(clip) + "\n")
    with pytest.raises(DataError, match=r"silent\.jsonl: no utterance has a transcript"):
        tune_weights(MODEL, lm, path, cache=tmp_path)


def test_utterances_without_a_transcript_are_counted(lm: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    clips = [
        {"audio_filepath": str(COMMANDS / "clips" / f"0{i}.opus"), "duration": 1} for i in range(2)
    ]
    rows = [clips[1], {**clips[0], "text": "nine four one five one"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = tune_weights(MODEL, lm, path, trials=1, cache=tmp_path).summary()
    assert (facts["utterances"], facts["left_out"], facts["words"]) == (1, 1, 5)
