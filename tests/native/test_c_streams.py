"""libtinyvox: tokens, log-probabilities, copies of streams, and calls that are wrong."""

from __future__ import annotations

import random
from ctypes import POINTER, byref, c_int16, c_void_p

import numpy as np
import pytest
from c_library import CODES, MODEL, Library, LogProbabilities, Result, Samples, needs_a_compiler

import tinyvox as tv

pytestmark = [pytest.mark.runtime, needs_a_compiler]


def taken(library: Library, stream: c_void_p) -> np.ndarray:
    found = POINTER(LogProbabilities)()
    library.check(library.c.tv_stream_log_probabilities(stream, byref(found)))
    got = found.contents
    values = np.ctypeslib.as_array(got.values, (got.frames, got.tokens)).copy()
    library.c.tv_log_probabilities_free(found)
    return values


def test_a_model_says_its_tokens(library: Library) -> None:
    c, session = library.c, tv.open(MODEL)
    with library.model() as model:
        blank = c.tv_blank(model)
        texts = [c.tv_token_text(model, token) for token in range(c.tv_token_count(model))]
        assert tuple(t.decode() for i, t in enumerate(texts) if i != blank) == session.tokens
        assert len(texts) == session.output_size
        assert c.tv_token_text(model, len(texts)) is None
        assert c.tv_frame_seconds(model) == 0.02
    assert (c.tv_token_count(None), c.tv_blank(None), c.tv_frame_seconds(None)) == (0, 0, 0.0)
    assert c.tv_token_text(None, 0) is None


def test_log_probabilities_are_those_of_the_model(library: Library, clips: list[Samples]) -> None:
    session = tv.open(MODEL)
    expected = session.run(session.features(clips[0]))
    with library.model() as model, library.stream(model) as stream:
        code = library.c.tv_stream_log_probabilities(stream, byref(POINTER(LogProbabilities)()))
        library.refused(code, "TV_ERROR_ARGUMENT", "the stream keeps none")
        library.check(library.c.tv_stream_keep_log_probabilities(stream))
        library.check(library.feed(stream, clips[0][:16000]))
        first = taken(library, stream)
        library.check(library.feed(stream, clips[0][16000:]))
        library.check(library.c.tv_stream_finish(stream))
        whole = np.concatenate([first, taken(library, stream)])
        assert len(first) > 10
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_allclose(np.exp(whole).sum(1), 1, atol=1e-4)
        library.check(library.c.tv_stream_reset(stream))
        assert library.transcribe(stream, clips[1]) == session.transcribe(clips[1])


def test_a_copy_goes_on_by_itself(library: Library, clips: list[Samples], texts: list[str]) -> None:
    half, copy = len(clips[0]) // 2, c_void_p()
    with library.model() as model, library.stream(model) as stream:
        library.check(library.feed(stream, clips[0][:half]))
        before = library.text(stream)
        library.check(library.c.tv_stream_copy(stream, byref(copy)))
        library.check(library.c.tv_stream_finish(copy))
        assert library.text(copy) == tv.open(MODEL).transcribe(clips[0][:half])
        library.c.tv_stream_close(copy)
        assert library.text(stream) == before
        assert library.transcribe(stream, clips[0][half:]) == texts[0]


def test_any_order_of_calls_gives_codes(library: Library, clips: list[Samples]) -> None:
    """Streams that are fed, copied, finished, reset and closed at random, and NULL among them."""
    c, draw, samples = library.c, random.Random(22), clips[0][:800]
    pointer = samples.ctypes.data_as(POINTER(c_int16))
    allowed = {CODES[name] for name in ("TV_OK", "TV_ERROR_ARGUMENT", "TV_ERROR_FINISHED")}
    made, heard, best = c_void_p(), POINTER(LogProbabilities)(), POINTER(Result)()
    streams: list[c_void_p | None] = [None]
    with library.model() as model:
        calls = [
            lambda s: c.tv_stream_feed(s, pointer, draw.choice([0, 1, len(samples)])),
            lambda s: c.tv_stream_feed(s, None, draw.choice([0, 5])),
            lambda _: c.tv_stream_open(draw.choice([model, None]), byref(made)),
            lambda s: c.tv_stream_copy(s, draw.choice([byref(made), None])),
            lambda s: c.tv_stream_log_probabilities(s, draw.choice([byref(heard), None])),
            lambda s: c.tv_stream_best(s, 3, draw.choice([byref(best), None])),
            c.tv_stream_finish,
            c.tv_stream_reset,
            c.tv_stream_keep_log_probabilities,
        ]
        for _ in range(600):
            made.value, heard, best = None, POINTER(LogProbabilities)(), POINTER(Result)()
            code = draw.choice(calls)(draw.choice(streams))
            assert code in allowed, c.tv_error_message()
            c.tv_log_probabilities_free(heard)
            c.tv_result_free(best)
            if made.value:
                streams.append(c_void_p(made.value))
            if len(streams) > 8:
                c.tv_stream_close(streams.pop(draw.randrange(1, len(streams))))
    for stream in streams:
        c.tv_stream_close(stream)
