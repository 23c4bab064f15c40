"""libtinyvox: beam search as Python does it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, byref, c_char_p, c_int16, c_uint64, c_void_p, cast, sizeof
from pathlib import Path

import pytest
from c_library import (
    CODES,
    HEADER,
    MODEL,
    Library,
    Options,
    Result,
    Samples,
    SearchOptions,
    needs_a_compiler,
    shared_library,
)

import tinyvox as tv
from tinyvox.formats.tvlm import save_ngrams
from tinyvox.lm import estimate

pytestmark = [pytest.mark.runtime, needs_a_compiler]

SENTENCES = ["nine four one five one", "oh zero", "stop off", "no left stop left", "go yes"]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "c.tvlm"
    save_ngrams(estimate(SENTENCES * 3, 2), path)
    return path


@contextmanager
def opened(library: Library, model: c_void_p, lm: Path | None) -> Iterator[c_void_p]:
    """A search with the defaults."""
    options, search = SearchOptions(), c_void_p()
    library.c.tv_search_defaults(byref(options), sizeof(options))
    options.language_model = None if lm is None else os.fsencode(lm)
    library.check(library.c.tv_search_open(model, byref(options), byref(search)))
    yield search
    library.c.tv_search_close(search)


def transcribed(
    library: Library, model: c_void_p, search: c_void_p | None, samples: Samples
) -> str:
    text = c_void_p()
    pointer = samples.ctypes.data_as(POINTER(c_int16))
    library.check(library.c.tv_transcribe(model, search, pointer, len(samples), byref(text)))
    found = cast(text, c_char_p).value
    library.c.tv_string_free(text)
    assert found is not None
    return found.decode()


def test_one_call_gives_the_text_of_a_stream(
    library: Library, clips: list[Samples], texts: list[str]
) -> None:
    with library.model() as model:
        assert [transcribed(library, model, None, clip) for clip in clips] == texts


def test_a_search_finds_what_python_finds(library: Library, clips: list[Samples], lm: Path) -> None:
    session = tv.open(MODEL)
    search = session.search(lm)
    with library.model() as model, opened(library, model, lm) as found:
        for clip in clips[:3]:
            expected = session.recognize(clip, search=search, count=3)
            assert transcribed(library, model, found, clip) == expected[0].text
            stream, result = c_void_p(), POINTER(Result)()
            library.check(library.c.tv_stream_open_search(model, found, byref(stream)))
            library.transcribe(stream, clip)
            library.check(library.c.tv_stream_best(stream, 3, byref(result)))
            library.c.tv_stream_close(stream)
            assert result.contents.count == 3
            for one, other in zip(result.contents.transcripts[:3], expected, strict=True):
                assert (one.text.decode(), one.confidence) == (other.text, other.confidence)
                tokens = [
                    (t.text.decode(), t.frame, t.start) for t in one.tokens[: one.token_count]
                ]
                assert tokens == [(t.text, t.frame, t.start) for t in other.tokens]
            library.c.tv_result_free(result)


def test_hot_words_come_and_go(library: Library, clips: list[Samples], lm: Path) -> None:
    with library.model() as model, opened(library, model, lm) as search:
        plain = transcribed(library, model, search, clips[2])
        for word in (b"left", b"marvin"):  # one is in the language model
            library.check(library.c.tv_search_add_hot_word(search, word, 300.0))
            assert word.decode() in transcribed(library, model, search, clips[2]).split()
            library.check(library.c.tv_search_erase_hot_word(search, word))
        assert transcribed(library, model, search, clips[2]) == plain
        refused = library.c.tv_search_erase_hot_word(search, b"left")
        library.refused(refused, "TV_ERROR_ARGUMENT", "no hot word")
        refused = library.c.tv_search_add_hot_word(search, b"Z!", 1.0)
        library.refused(refused, "TV_ERROR_ARGUMENT", "character that no token")
        refused = library.c.tv_search_add_hot_word(search, b"  ", 1.0)
        library.refused(refused, "TV_ERROR_ARGUMENT", "a hot word is empty")
        library.check(library.c.tv_search_add_hot_word(search, b" go  left ", 1.0))
        library.check(library.c.tv_search_erase_hot_word(search, b"go left"))
        library.check(library.c.tv_search_add_hot_word(search, b"left", 300.0))
        library.check(library.c.tv_search_clear_hot_words(search))
        assert transcribed(library, model, search, clips[2]) == plain


def test_what_cannot_be_has_a_code(library: Library, lm: Path, tmp_path: Path) -> None:
    c, search, stream, result = library.c, c_void_p(), c_void_p(), POINTER(Result)()
    options = SearchOptions()
    c.tv_search_defaults(byref(options), sizeof(options))
    with library.model() as model:
        options.language_model = os.fsencode(tmp_path / "gone.tvlm")
        code = c.tv_search_open(model, byref(options), byref(search))
        library.refused(code, "TV_ERROR_FILE", "gone.tvlm")
        (tmp_path / "bad.tvlm").write_bytes(b"bad")
        options.language_model = os.fsencode(tmp_path / "bad.tvlm")
        code = c.tv_search_open(model, byref(options), byref(search))
        library.refused(code, "TV_ERROR_FORMAT", "bad.tvlm: not a tinyvox language model")
        options.language_model, options.beam = None, 0
        code = c.tv_search_open(model, byref(options), byref(search))
        library.refused(code, "TV_ERROR_ARGUMENT", "beam width is 0")
        options.beam, options.cutoff_probability = 100, 1.5
        code = c.tv_search_open(model, byref(options), byref(search))
        library.refused(code, "TV_ERROR_ARGUMENT", "a cut-off is out of its range")
        options.cutoff_probability, options.reserved = 1, 3
        code = c.tv_search_open(model, byref(options), byref(search))
        library.refused(code, "TV_ERROR_ARGUMENT", "reserved is 3, expected 0")
        options.reserved, options.size = 0, 10**6
        code = c.tv_search_open(model, byref(options), byref(search))
        library.refused(code, "TV_ERROR_ARGUMENT", "no size, or a wrong one")
        assert search.value is None
        with library.stream(model) as stream:
            code = c.tv_stream_best(stream, 1, byref(result))
            library.refused(code, "TV_ERROR_ARGUMENT", "open it with a search")
    assert c.tv_search_open(None, None, byref(search)) == CODES["TV_ERROR_ARGUMENT"]
    assert c.tv_search_add_hot_word(None, b"a", 1.0) == CODES["TV_ERROR_ARGUMENT"]
    assert c.tv_version_number() == 100


def recognized(
    library: Library, model: c_void_p, search: c_void_p, samples: Samples, count: int
) -> list[tuple[str, float]]:
    result = POINTER(Result)()
    pointer = samples.ctypes.data_as(POINTER(c_int16))
    library.check(
        library.c.tv_recognize(model, search, pointer, len(samples), count, byref(result))
    )
    found = result.contents.transcripts[: result.contents.count]
    texts = [(each.text.decode(), each.confidence) for each in found]
    library.c.tv_result_free(result)
    return texts


def test_alpha_and_beta_are_those_of_the_file(
    library: Library, clips: list[Samples], lm: Path, tmp_path: Path
) -> None:
    weighted = tmp_path / "weighted.tvlm"
    save_ngrams(estimate(SENTENCES * 3, 2), weighted, weights=(2.0, -3.0))
    session = tv.open(MODEL)
    with library.model() as model, opened(library, model, weighted) as search:
        expected = session.recognize(clips[0], search=session.search(weighted))[0]
        (found,) = recognized(library, model, search, clips[0], 1)
        assert found == (expected.text, expected.confidence)
        plain = session.recognize(clips[0], search=session.search(lm))[0]
        assert found != (plain.text, plain.confidence)


def test_options_grow_with_the_library(library: Library, lm: Path) -> None:
    """Those of an older header have the newer defaults; newer ones are 0, or refused."""
    c, model, search, path = library.c, c_void_p(), c_void_p(), os.fsencode(MODEL)

    class Newer(Structure):
        _fields_ = (("known", Options), ("later", c_uint64))

    newer = Newer()
    pointer = cast(byref(newer), POINTER(Options))
    c.tv_options_defaults(pointer, sizeof(newer))
    assert (newer.known.size, newer.known.threads, newer.later) == (sizeof(newer), 1, 0)
    library.check(c.tv_open_with(path, pointer, byref(model)))
    c.tv_close(model)
    newer.later = 1
    code = c.tv_open_with(path, pointer, byref(model))
    library.refused(code, "TV_ERROR_ARGUMENT", "this version of the library does not have")
    newer.known.size = 2**40
    code = c.tv_open_with(path, pointer, byref(model))
    library.refused(code, "TV_ERROR_ARGUMENT", "have no size, or a wrong one")
    code = c.tv_open_with(path, byref(Options(16, 65)), byref(model))
    library.refused(code, "TV_ERROR_ARGUMENT", "threads are 65")
    code = c.tv_open_with(path, byref(Options(sizeof(Options), 2, 1000)), byref(model))
    library.refused(code, "TV_ERROR_LIMIT", "memory")
    older = SearchOptions(16, os.fsencode(lm))
    with library.model() as own:
        library.check(c.tv_search_open(own, byref(older), byref(search)))
        c.tv_search_close(search)


PROGRAM = """
#include <stdio.h>
#include "deepspeech_compat.h"

int main(int argc, char** argv) {
  static short audio[1 << 20];
  ModelState* model = NULL;
  StreamingState* stream = NULL;
  FILE* file = fopen(argv[2], "rb");
  const unsigned int samples = (unsigned int)fread(audio, 2, 1 << 20, file);
  fclose(file);
  if (argc != 4 || DS_CreateModel(argv[1], &model) || STT_EnableExternalScorer(model, argv[3]))
    return 1;
  printf("%d %u\\n", DS_GetModelSampleRate(model), DS_GetModelBeamWidth(model));
  if (DS_AddHotWord(model, "left", 300.0f) || DS_SetModelBeamWidth(model, 50)) return 2;
  char* text = DS_SpeechToText(model, audio, samples);
  puts(text);
  DS_FreeString(text);
  if (DS_ClearHotWords(model) || DS_SetScorerAlphaBeta(model, 0.5f, 1.0f)) return 3;
  if (STT_CreateStream(model, &stream)) return 6;
  STT_FeedAudioContent(stream, audio, samples / 2);
  char* before = STT_IntermediateDecode(stream);
  puts(text = STT_IntermediateDecodeFlushBuffers(stream));
  char* after = STT_IntermediateDecode(stream);
  if (strcmp(before, after)) return 7;
  STT_FreeString(before), STT_FreeString(after), STT_FreeString(text);
  STT_FreeMetadata(STT_IntermediateDecodeWithMetadataFlushBuffers(stream, 2));
  STT_FeedAudioContent(stream, audio + samples / 2, samples - samples / 2);
  puts(text = STT_FinishStream(stream));
  STT_FreeString(text);
  if (DS_CreateStream(model, &stream)) return 4;
  DS_FeedAudioContent(stream, audio, samples);
  Metadata* found = DS_FinishStreamWithMetadata(stream, 2);
  for (unsigned int i = 0; i < found->transcripts[0].num_tokens; ++i)
    printf("%s", found->transcripts[0].tokens[i].text);
  puts("");
  DS_FreeMetadata(found);
  found = STT_SpeechToTextWithEmissions(model, audio, samples, 1);
  const AcousticModelEmissions* heard = found->emissions;
  double sum = 0;
  for (int i = 0; i < heard->num_symbols; ++i) sum += heard->emissions[i];
  printf("%.4f %d %s\\n", sum, heard->num_timesteps > 50, heard->symbols[1]);
  DS_FreeMetadata(found);
  char* bytes = malloc(1 << 20);
  file = fopen(argv[3], "rb");
  const unsigned int size = (unsigned int)fread(bytes, 1, 1 << 20, file);
  fclose(file);
  if (STT_DisableExternalScorer(model) || !STT_DisableExternalScorer(model)) return 8;
  if (STT_SetScorerAlphaBeta(model, 1, 1) != STT_ERR_SCORER_NOT_ENABLED) return 9;
  if (STT_EnableExternalScorerFromBuffer(model, bytes, size)) return 10;
  free(bytes);
  puts(text = DS_SpeechToText(model, audio, samples));
  DS_FreeString(text);
  if (STT_EnableExternalScorer(model, "no") != STT_ERR_SCORER_UNREADABLE) return 11;
  puts(text = DS_ErrorCodeToErrorMessage(STT_ERR_SCORER_UNREADABLE));
  DS_FreeString(text);
  DS_FreeModel(model);
  return STT_CreateModel(argv[2], &model) == DS_ERR_MODEL_INCOMPATIBLE && !model ? 0 : 5;
}
"""


def test_a_program_for_deepspeech_runs(
    native_build: Path, clips: list[Samples], lm: Path, tmp_path: Path
) -> None:
    (tmp_path / "program.c").write_text(PROGRAM)
    clips[0].tofile(tmp_path / "audio.raw")
    program = tmp_path / "program"
    subprocess.run(
        ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{HEADER.parent}",
         tmp_path / "program.c", "-o", program, shared_library(native_build),
         f"-Wl,-rpath,{native_build}", "-lm"],
        check=True,
    )  # fmt: skip
    command = [program, MODEL, tmp_path / "audio.raw", lm]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "16000 100"
    assert "left" in lines[1].split()
    whole = "nine four one five one"
    session = tv.open(MODEL)
    search = session.search(lm, alpha=0.5, beta=1.0, beam=50)
    half = session.transcribe(clips[0][: len(clips[0]) // 2], search=search)
    assert lines[2:6] == [half, whole, whole, "1.0000 1 a"]
    assert lines[6:] == [whole, "no: cannot be read: No such file or directory"]
