// The C functions of DeepSpeech and Coqui STT by their names, DS_* and STT_*, over tinyvox.h.
//
// Include this in place of deepspeech.h or coqui-stt.h, and link libtinyvox. Models are .tvx files,
// scorers .tvlm files. A stream hears the hot words and the scorer that the model has when it is
// created. Codes of errors are 0, those of DeepSpeech, or TV_ERROR_*; DS_ErrorCodeToErrorMessage
// says what happened last. Programs in C that call STT_SpeechToTextWithEmissions link libm too.
#ifndef TINYVOX_DEEPSPEECH_COMPAT_H
#define TINYVOX_DEEPSPEECH_COMPAT_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "deepspeech_errors.h"
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
  char* scorer;  // the path, or the bytes
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

typedef struct AcousticModelEmissions {
  int num_symbols;       // the blank among them
  const char** symbols;  // [num_symbols], and an empty one
  int num_timesteps;
  const double* emissions;  // [num_timesteps, num_symbols]: probabilities
} AcousticModelEmissions;

typedef struct Metadata {
  const CandidateTranscript* transcripts;
  unsigned int num_transcripts;
  const AcousticModelEmissions* emissions;  // or NULL
  tv_result* result;                        // has the texts
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

// A copy that DS_FreeString, or free, frees; NULL if there is no memory.
TV_COMPAT char* tv_compat_copy(const void* bytes, size_t size) {
  char* const copy = (char*)malloc(size + 1);
  if (!copy) return NULL;
  memcpy(copy, bytes, size);
  copy[size] = '\0';
  return copy;
}

TV_COMPAT char* tv_compat_text(const char* text) { return tv_compat_copy(text, strlen(text)); }

TV_COMPAT int tv_compat_code_of_model(tv_error error) {
  if (error == TV_ERROR_ARGUMENT) return DS_ERR_NO_MODEL;
  if (error == TV_ERROR_FILE) return DS_ERR_FAIL_INIT_MMAP;
  if (error == TV_ERROR_MEMORY) return DS_ERR_FAIL_CREATE_MODEL;
  return error ? DS_ERR_MODEL_INCOMPATIBLE : DS_ERR_OK;
}

// Takes the model, also on failure.
TV_COMPAT int tv_compat_model(tv_error opened, tv_model* model, ModelState** made) {
  ModelState* const state = opened ? NULL : (ModelState*)calloc(1, sizeof(ModelState));
  tv_error error = opened;
  *made = NULL;
  if (!state) {
    tv_close(model);
    return opened ? tv_compat_code_of_model(opened) : DS_ERR_FAIL_CREATE_MODEL;
  }
  state->model = model;
  tv_search_defaults(&state->options, sizeof state->options);
  error = tv_search_open(model, NULL, &state->search);
  if (error)
    DS_FreeModel(state);
  else
    *made = state;
  return tv_compat_code_of_model(error);
}

TV_COMPAT int DS_CreateModel(const char* path, ModelState** model) {
  tv_model* opened = NULL;
  const tv_error error = tv_open(path, &opened);
  return tv_compat_model(error, opened, model);
}

TV_COMPAT int DS_CreateModelFromBuffer(const char* bytes, unsigned int size, ModelState** model) {
  tv_model* opened = NULL;
  const tv_error error = tv_open_memory(bytes, size, &opened);
  return tv_compat_model(error, opened, model);
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
  if (!state->scorer) return DS_ERR_SCORER_NOT_ENABLED;
  options.alpha = alpha;
  options.beta = beta;
  return tv_compat_change(state, options);
}

// Alpha and beta are those of the next scorer, until others are set.
TV_COMPAT void tv_compat_weights(tv_search_options* options) {
  tv_search_options usual;
  tv_search_defaults(&usual, sizeof usual);
  options->alpha = usual.alpha;
  options->beta = usual.beta;
}

// Takes the options on that name `scorer`, and frees the earlier one; on failure, this one.
TV_COMPAT int tv_compat_scorer(ModelState* state, tv_search_options options, char* scorer) {
  const int error = tv_compat_change(state, options);
  free(error ? scorer : state->scorer);
  if (!error) state->scorer = scorer;
  return error == TV_ERROR_FILE ? DS_ERR_SCORER_UNREADABLE : error ? DS_ERR_INVALID_SCORER : 0;
}

TV_COMPAT int DS_EnableExternalScorer(ModelState* state, const char* path) {
  tv_search_options options = state->options;
  char* const copy = path ? tv_compat_text(path) : NULL;
  if (!copy) return DS_ERR_INVALID_SCORER;
  tv_compat_weights(&options);
  options.language_model = copy;
  options.language_model_bytes = NULL;
  options.language_model_size = 0;
  return tv_compat_scorer(state, options, copy);
}

TV_COMPAT int DS_EnableExternalScorerFromBuffer(ModelState* state, const char* bytes,
                                                unsigned int size) {
  tv_search_options options = state->options;
  char* const copy = bytes ? tv_compat_copy(bytes, size) : NULL;
  if (!copy) return DS_ERR_INVALID_SCORER;
  tv_compat_weights(&options);
  options.language_model = NULL;
  options.language_model_bytes = copy;
  options.language_model_size = size;
  return tv_compat_scorer(state, options, copy);
}

TV_COMPAT int DS_DisableExternalScorer(ModelState* state) {
  tv_search_options options = state->options;
  if (!state->scorer) return DS_ERR_SCORER_NOT_ENABLED;
  tv_compat_weights(&options);
  options.language_model = NULL;
  options.language_model_bytes = NULL;
  options.language_model_size = 0;
  return tv_compat_scorer(state, options, NULL);
}

TV_COMPAT int DS_AddHotWord(ModelState* state, const char* word, float boost) {
  return tv_search_add_hot_word(state->search, word, boost) ? DS_ERR_FAIL_INSERT_HOTWORD : 0;
}

TV_COMPAT int DS_EraseHotWord(ModelState* state, const char* word) {
  return tv_search_erase_hot_word(state->search, word) ? DS_ERR_FAIL_ERASE_HOTWORD : 0;
}

TV_COMPAT int DS_ClearHotWords(ModelState* state) {
  return tv_search_clear_hot_words(state->search) ? DS_ERR_FAIL_CLEAR_HOTWORD : 0;
}

TV_COMPAT char* DS_SpeechToText(ModelState* state, const short* audio, unsigned int samples) {
  char *text = NULL, *copy = NULL;
  if (!tv_transcribe(state->model, state->search, audio, samples, &text)) {
    copy = tv_compat_text(text);
    tv_string_free(text);
  }
  return copy;
}

TV_COMPAT int DS_CreateStream(ModelState* state, StreamingState** stream) {
  return tv_stream_open_search(state->model, state->search, stream) ? DS_ERR_FAIL_CREATE_STREAM : 0;
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
  if (metadata->emissions) {
    free((void*)metadata->emissions->emissions);
    free((void*)metadata->emissions->symbols);
  }
  free((void*)metadata->emissions);
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

// Takes the result, also on failure.
TV_COMPAT Metadata* tv_compat_metadata(tv_result* result) {
  Metadata* const metadata = (Metadata*)calloc(1, sizeof(Metadata));
  CandidateTranscript* all;
  if (!metadata) {
    tv_result_free(result);
    return NULL;
  }
  metadata->result = result;
  all = (CandidateTranscript*)calloc(result->count + 1, sizeof(CandidateTranscript));
  metadata->transcripts = all;
  for (size_t i = 0; all && i < result->count; ++i) {
    const tv_transcript* const found = &result->transcripts[i];
    all[i].tokens = tv_compat_tokens(found);
    all[i].num_tokens = all[i].tokens ? (unsigned int)found->token_count : 0;
    all[i].confidence = found->confidence;
    ++metadata->num_transcripts;
  }
  return metadata;
}

TV_COMPAT Metadata* DS_IntermediateDecodeWithMetadata(const StreamingState* stream,
                                                      unsigned int results) {
  tv_result* result = NULL;
  if (tv_stream_best((tv_stream*)stream, results, &result)) return NULL;
  return tv_compat_metadata(result);
}

TV_COMPAT char* DS_IntermediateDecode(const StreamingState* stream) {
  return tv_compat_text(tv_stream_text((tv_stream*)stream));
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

// What the text is if the utterance ends here. The stream goes on as if nobody had asked.
TV_COMPAT char* DS_IntermediateDecodeFlushBuffers(StreamingState* stream) {
  StreamingState* copy = NULL;
  return tv_stream_copy(stream, &copy) ? NULL : DS_FinishStream(copy);
}

TV_COMPAT Metadata* DS_IntermediateDecodeWithMetadataFlushBuffers(StreamingState* stream,
                                                                  unsigned int results) {
  StreamingState* copy = NULL;
  return tv_stream_copy(stream, &copy) ? NULL : DS_FinishStreamWithMetadata(copy, results);
}

TV_COMPAT Metadata* DS_SpeechToTextWithMetadata(ModelState* state, const short* audio,
                                                unsigned int samples, unsigned int results) {
  tv_result* result = NULL;
  if (tv_recognize(state->model, state->search, audio, samples, results, &result)) return NULL;
  return tv_compat_metadata(result);
}

// Probabilities and symbols; NULL if there is no memory.
TV_COMPAT AcousticModelEmissions* tv_compat_emissions(const tv_model* model,
                                                      const tv_log_probabilities* heard) {
  const size_t values = heard->frames * heard->tokens;
  AcousticModelEmissions* const made = (AcousticModelEmissions*)calloc(1, sizeof *made);
  double* const emissions = (double*)malloc((values + 1) * sizeof(double));
  const char** const symbols = (const char**)malloc((heard->tokens + 1) * sizeof(char*));
  if (!made || !emissions || !symbols) {
    free(made);
    free(emissions);
    free((void*)symbols);
    return NULL;
  }
  for (size_t i = 0; i < values; ++i) emissions[i] = exp((double)heard->values[i]);
  for (size_t i = 0; i < heard->tokens; ++i) symbols[i] = tv_token_text(model, (uint32_t)i);
  symbols[heard->tokens] = "";
  made->num_symbols = (int)heard->tokens;
  made->num_timesteps = (int)heard->frames;
  made->symbols = symbols;
  made->emissions = emissions;
  return made;
}

// The symbols are valid until DS_FreeModel.
TV_COMPAT Metadata* DS_SpeechToTextWithEmissions(ModelState* state, const short* audio,
                                                 unsigned int samples, unsigned int results) {
  StreamingState* stream = NULL;
  tv_log_probabilities* heard = NULL;
  Metadata* metadata = NULL;
  if (!tv_stream_open_search(state->model, state->search, &stream) &&
      !tv_stream_keep_log_probabilities(stream) && !tv_stream_feed(stream, audio, samples) &&
      !tv_stream_finish(stream) && !tv_stream_log_probabilities(stream, &heard))
    metadata = DS_IntermediateDecodeWithMetadata(stream, results);
  if (metadata) metadata->emissions = tv_compat_emissions(state->model, heard);
  tv_log_probabilities_free(heard);
  tv_stream_close(stream);
  return metadata;
}

// Frees what the functions here return, and nothing else than free() does.
TV_COMPAT void DS_FreeString(char* text) { free(text); }

TV_COMPAT char* DS_Version(void) { return tv_compat_text(tv_version()); }

// The last error of the thread, in the words of tinyvox, if `code` stands for one.
TV_COMPAT char* DS_ErrorCodeToErrorMessage(int code) {
  const char* const said = tv_error_message();
  if (code == DS_ERR_OK) return tv_compat_text("No error.");
  if (code == DS_ERR_SCORER_NOT_ENABLED) return tv_compat_text("There is no scorer.");
  return tv_compat_text(*said ? said : "Out of memory, or a NULL argument.");
}

#define STT_CreateModel DS_CreateModel
#define STT_CreateModelFromBuffer DS_CreateModelFromBuffer
#define STT_FreeModel DS_FreeModel
#define STT_GetModelBeamWidth DS_GetModelBeamWidth
#define STT_SetModelBeamWidth DS_SetModelBeamWidth
#define STT_GetModelSampleRate DS_GetModelSampleRate
#define STT_EnableExternalScorer DS_EnableExternalScorer
#define STT_EnableExternalScorerFromBuffer DS_EnableExternalScorerFromBuffer
#define STT_DisableExternalScorer DS_DisableExternalScorer
#define STT_SetScorerAlphaBeta DS_SetScorerAlphaBeta
#define STT_AddHotWord DS_AddHotWord
#define STT_EraseHotWord DS_EraseHotWord
#define STT_ClearHotWords DS_ClearHotWords
#define STT_SpeechToText DS_SpeechToText
#define STT_SpeechToTextWithMetadata DS_SpeechToTextWithMetadata
#define STT_SpeechToTextWithEmissions DS_SpeechToTextWithEmissions
#define STT_CreateStream DS_CreateStream
#define STT_FreeStream DS_FreeStream
#define STT_FeedAudioContent DS_FeedAudioContent
#define STT_IntermediateDecode DS_IntermediateDecode
#define STT_IntermediateDecodeWithMetadata DS_IntermediateDecodeWithMetadata
#define STT_IntermediateDecodeFlushBuffers DS_IntermediateDecodeFlushBuffers
#define STT_IntermediateDecodeWithMetadataFlushBuffers DS_IntermediateDecodeWithMetadataFlushBuffers
#define STT_FinishStream DS_FinishStream
#define STT_FinishStreamWithMetadata DS_FinishStreamWithMetadata
#define STT_FreeMetadata DS_FreeMetadata
#define STT_FreeString DS_FreeString
#define STT_Version DS_Version
#define STT_ErrorCodeToErrorMessage DS_ErrorCodeToErrorMessage

#endif  // TINYVOX_DEEPSPEECH_COMPAT_H
