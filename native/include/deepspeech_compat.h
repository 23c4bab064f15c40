// The C functions of DeepSpeech and Coqui STT by their names, DS_* and STT_*, over tinyvox.h.
//
// Include this in place of deepspeech.h or coqui-stt.h, and link libtinyvox. Models are .tvx files,
// scorers .tvlm files. A stream hears the hot words and the scorer that the model has when it is
// created. Codes of errors are 0 or TV_ERROR_*; tv_error_message() says what happened.
#ifndef TINYVOX_DEEPSPEECH_COMPAT_H
#define TINYVOX_DEEPSPEECH_COMPAT_H

#include <stdlib.h>
#include <string.h>

#include "tinyvox.h"

#if defined(__GNUC__)
#define TV_COMPAT static inline __attribute__((unused))
#else
#define TV_COMPAT static inline
#endif

typedef struct ModelState {
  tv_model* model;
  tv_search* search;
  tv_search_options options;
  char* scorer;
} ModelState;

typedef tv_stream StreamingState;

typedef struct TokenMetadata {
  const char* text;
  unsigned int timestep;
  float start_time;
} TokenMetadata;

typedef struct CandidateTranscript {
  const TokenMetadata* tokens;
  unsigned int num_tokens;
  double confidence;
} CandidateTranscript;

typedef struct Metadata {
  const CandidateTranscript* transcripts;
  unsigned int num_transcripts;
  tv_result* result;  // has the texts
} Metadata;

TV_COMPAT void DS_FreeModel(ModelState* state) {
  if (!state) return;
  tv_search_close(state->search);
  tv_close(state->model);
  free(state->scorer);
  free(state);
}

// Takes `options` on; on failure nothing is changed.
TV_COMPAT int tv_compat_change(ModelState* state, tv_search_options options) {
  const tv_error error = tv_search_change(state->search, &options);
  if (!error) state->options = options;
  return error;
}

// A copy that DS_FreeString frees; NULL if there is no memory.
TV_COMPAT char* tv_compat_copy(const char* text) {
  char* const copy = (char*)malloc(strlen(text) + 1);
  if (copy) strcpy(copy, text);
  return copy;
}

TV_COMPAT int DS_CreateModel(const char* path, ModelState** model) {
  ModelState* const state = (ModelState*)calloc(1, sizeof(ModelState));
  *model = NULL;
  if (!state) return TV_ERROR_MEMORY;
  tv_search_defaults(&state->options);
  int error = tv_open(path, &state->model);
  if (!error) error = tv_search_open(state->model, NULL, &state->search);
  if (error)
    DS_FreeModel(state);
  else
    *model = state;
  return error;
}

TV_COMPAT unsigned int DS_GetModelBeamWidth(const ModelState* state) { return state->options.beam; }

TV_COMPAT int DS_GetModelSampleRate(const ModelState* state) {
  return (int)tv_sample_rate(state->model);
}

TV_COMPAT int DS_SetModelBeamWidth(ModelState* state, unsigned int width) {
  tv_search_options options = state->options;
  options.beam = width;
  return tv_compat_change(state, options);
}

TV_COMPAT int DS_SetScorerAlphaBeta(ModelState* state, float alpha, float beta) {
  tv_search_options options = state->options;
  options.alpha = alpha;
  options.beta = beta;
  return tv_compat_change(state, options);
}

TV_COMPAT int DS_EnableExternalScorer(ModelState* state, const char* path) {
  tv_search_options options = state->options;
  char* const copy = path ? tv_compat_copy(path) : NULL;
  if (!copy) return path ? TV_ERROR_MEMORY : TV_ERROR_ARGUMENT;
  options.language_model = copy;
  const int error = tv_compat_change(state, options);
  free(error ? copy : state->scorer);
  if (!error) state->scorer = copy;
  return error;
}

TV_COMPAT int DS_DisableExternalScorer(ModelState* state) {
  tv_search_options options = state->options;
  options.language_model = NULL;
  const int error = tv_compat_change(state, options);
  if (error) return error;
  free(state->scorer);
  state->scorer = NULL;
  return TV_OK;
}

TV_COMPAT int DS_AddHotWord(ModelState* state, const char* word, float boost) {
  return tv_search_add_hot_word(state->search, word, boost);
}

TV_COMPAT int DS_EraseHotWord(ModelState* state, const char* word) {
  return tv_search_erase_hot_word(state->search, word);
}

TV_COMPAT int DS_ClearHotWords(ModelState* state) {
  return tv_search_clear_hot_words(state->search);
}

TV_COMPAT char* DS_SpeechToText(ModelState* state, const short* audio, unsigned int samples) {
  char *text = NULL, *copy = NULL;
  if (!tv_transcribe(state->model, state->search, audio, samples, &text)) {
    copy = tv_compat_copy(text);
    tv_string_free(text);
  }
  return copy;
}

TV_COMPAT int DS_CreateStream(ModelState* state, StreamingState** stream) {
  return tv_stream_open_search(state->model, state->search, stream);
}

TV_COMPAT void DS_FeedAudioContent(StreamingState* stream, const short* audio,
                                   unsigned int samples) {
  tv_stream_feed(stream, audio, samples);
}

TV_COMPAT void DS_FreeMetadata(Metadata* metadata) {
  if (!metadata) return;
  for (unsigned int i = 0; i < metadata->num_transcripts; ++i)
    free((void*)metadata->transcripts[i].tokens);
  free((void*)metadata->transcripts);
  tv_result_free(metadata->result);
  free(metadata);
}

TV_COMPAT TokenMetadata* tv_compat_tokens(const tv_transcript* transcript) {
  TokenMetadata* const tokens =
      (TokenMetadata*)calloc(transcript->token_count + 1, sizeof(TokenMetadata));
  for (size_t i = 0; tokens && i < transcript->token_count; ++i) {
    tokens[i].text = transcript->tokens[i].text;
    tokens[i].timestep = (unsigned int)transcript->tokens[i].frame;
    tokens[i].start_time = (float)transcript->tokens[i].start;
  }
  return tokens;
}

TV_COMPAT Metadata* DS_IntermediateDecodeWithMetadata(const StreamingState* stream,
                                                      unsigned int results) {
  Metadata* const metadata = (Metadata*)calloc(1, sizeof(Metadata));
  CandidateTranscript* all;
  if (!metadata || tv_stream_best((tv_stream*)stream, results, &metadata->result)) {
    free(metadata);
    return NULL;
  }
  all = (CandidateTranscript*)calloc(metadata->result->count + 1, sizeof(CandidateTranscript));
  metadata->transcripts = all;
  for (size_t i = 0; all && i < metadata->result->count; ++i) {
    const tv_transcript* const found = &metadata->result->transcripts[i];
    all[i].tokens = tv_compat_tokens(found);
    all[i].num_tokens = all[i].tokens ? (unsigned int)found->token_count : 0;
    all[i].confidence = found->confidence;
    ++metadata->num_transcripts;
  }
  return metadata;
}

TV_COMPAT char* DS_IntermediateDecode(const StreamingState* stream) {
  return tv_compat_copy(tv_stream_text((tv_stream*)stream));
}

TV_COMPAT void DS_FreeStream(StreamingState* stream) { tv_stream_close(stream); }

TV_COMPAT char* DS_FinishStream(StreamingState* stream) {
  char* text = NULL;
  if (!tv_stream_finish(stream)) text = DS_IntermediateDecode(stream);
  tv_stream_close(stream);
  return text;
}

TV_COMPAT Metadata* DS_FinishStreamWithMetadata(StreamingState* stream, unsigned int results) {
  Metadata* metadata = NULL;
  if (!tv_stream_finish(stream)) metadata = DS_IntermediateDecodeWithMetadata(stream, results);
  tv_stream_close(stream);
  return metadata;
}

TV_COMPAT Metadata* DS_SpeechToTextWithMetadata(ModelState* state, const short* audio,
                                                unsigned int samples, unsigned int results) {
  StreamingState* stream = NULL;
  if (DS_CreateStream(state, &stream)) return NULL;
  DS_FeedAudioContent(stream, audio, samples);
  return DS_FinishStreamWithMetadata(stream, results);
}

TV_COMPAT void DS_FreeString(char* text) { free(text); }

TV_COMPAT char* DS_Version(void) { return tv_compat_copy(tv_version()); }

TV_COMPAT char* DS_ErrorCodeToErrorMessage(int code) { return tv_compat_copy(tv_error_name(code)); }

#define STT_CreateModel DS_CreateModel
#define STT_FreeModel DS_FreeModel
#define STT_GetModelBeamWidth DS_GetModelBeamWidth
#define STT_SetModelBeamWidth DS_SetModelBeamWidth
#define STT_GetModelSampleRate DS_GetModelSampleRate
#define STT_EnableExternalScorer DS_EnableExternalScorer
#define STT_DisableExternalScorer DS_DisableExternalScorer
#define STT_SetScorerAlphaBeta DS_SetScorerAlphaBeta
#define STT_AddHotWord DS_AddHotWord
#define STT_EraseHotWord DS_EraseHotWord
#define STT_ClearHotWords DS_ClearHotWords
#define STT_SpeechToText DS_SpeechToText
#define STT_SpeechToTextWithMetadata DS_SpeechToTextWithMetadata
#define STT_CreateStream DS_CreateStream
#define STT_FreeStream DS_FreeStream
#define STT_FeedAudioContent DS_FeedAudioContent
#define STT_IntermediateDecode DS_IntermediateDecode
#define STT_IntermediateDecodeWithMetadata DS_IntermediateDecodeWithMetadata
#define STT_FinishStream DS_FinishStream
#define STT_FinishStreamWithMetadata DS_FinishStreamWithMetadata
#define STT_FreeMetadata DS_FreeMetadata
#define STT_FreeString DS_FreeString
#define STT_Version DS_Version
#define STT_ErrorCodeToErrorMessage DS_ErrorCodeToErrorMessage

#endif  // TINYVOX_DEEPSPEECH_COMPAT_H
