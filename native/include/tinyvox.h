// The C API of tinyvox: a model, any number of streams on it, 16-bit audio in, text out.
//
//   tv_model* model = NULL;
//   tv_stream* stream = NULL;
//   if (tv_open("model.tvx", &model) || tv_stream_open(model, &stream)) {
//     fprintf(stderr, "%s\n", tv_error_message());
//     return 1;
//   }
//   while ((count = microphone(samples)) > 0) {
//     tv_stream_feed(stream, samples, count);
//     printf("so far: %s\n", tv_stream_text(stream));
//   }
//   tv_stream_finish(stream);
//   printf("%s\n", tv_stream_text(stream));
//   tv_stream_close(stream);
//   tv_close(model);
//
// Errors. A function that can fail returns TV_OK, which is 0, or the code of an error; then
// tv_error_message() says in one line what happened. NULL for a required argument is
// TV_ERROR_ARGUMENT. The library throws no exceptions and prints nothing.
//
// Ownership. What a call gives through a pointer to a pointer is the caller's, to be freed by the
// function named there: a model by tv_close, a stream by tv_stream_close, a search by
// tv_search_close, a result by tv_result_free, log-probabilities by tv_log_probabilities_free, the
// text of tv_transcribe by tv_string_free. All of these ignore NULL, and may be called in any
// order: a stream keeps what it needs of the model and the search, a result what it needs of the
// stream. A string that a function returns belongs to the library; its comment says how long it
// is valid.
//
// Options. A struct of options begins with its size, so that later versions can add fields at its
// end: fill it by its function of defaults, then change what you want. A program that was built
// with an older header gets the defaults of the newer options. With options that an older library
// does not have, TV_ERROR_ARGUMENT is the result, unless they are 0.
//
// Threads. Several threads may open models at once, and several threads may use one model, each
// with streams of its own. Only one thread at a time may use a stream; to the others, calls give
// TV_ERROR_BUSY, and the stream is as it was. Do not close a model or a stream while another thread
// uses it.
//
// Strings are UTF-8; a path is passed to the system as it is.
#ifndef TINYVOX_H
#define TINYVOX_H

#include <stddef.h>
#include <stdint.h>

#define TV_VERSION "0.1.0"
#define TV_VERSION_NUMBER \
  100  // 10000 for each major version, 100 for each minor one, and the patch

#if defined(__GNUC__)
#define TV_API __attribute__((visibility("default")))
#else
#define TV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tv_model tv_model;
typedef struct tv_stream tv_stream;

// These numbers never change; later versions may add more.
typedef enum tv_error {
  TV_OK = 0,
  TV_ERROR_ARGUMENT = 1,   // an argument is NULL, or out of its range
  TV_ERROR_FILE = 2,       // the file cannot be read
  TV_ERROR_FORMAT = 3,     // no .tvx file, damaged, or of another version
  TV_ERROR_MEMORY = 4,     // out of memory
  TV_ERROR_ISA = 5,        // TINYVOX_ISA names an instruction set that does not run here
  TV_ERROR_NO_SPEECH = 6,  // the model has no speech card: it takes no audio and gives no text
  TV_ERROR_FINISHED = 7,   // the stream is finished: reset it, or open another
  TV_ERROR_BROKEN = 8,     // the stream ran out of memory and lost audio: reset it, or close it
  TV_ERROR_INTERNAL = 9,   // an error in tinyvox itself
  TV_ERROR_BUSY = 10,      // another thread is using the stream
  TV_ERROR_LIMIT = 11      // the file would take more memory or time than allowed
} tv_error;

// TV_VERSION of the library at run time, which may differ from that of this header.
TV_API const char* tv_version(void);

// TV_VERSION_NUMBER of the library at run time.
TV_API uint32_t tv_version_number(void);

// The name of a code, such as "TV_ERROR_FILE"; "unknown" for other numbers.
TV_API const char* tv_error_name(int code);

// The last error of the calling thread, in one line without a line feed; "" if there was none.
// Valid until the next error of this thread. A call that succeeds does not change it.
TV_API const char* tv_error_message(void);

// Opens a .tvx file and checks all of it. On failure `*model` is NULL.
//
// The file is mapped into memory while it is opened, and is not needed afterwards. To replace it
// meanwhile, rename a new file over it: if another process truncates or overwrites a mapped file,
// the system ends this process.
TV_API tv_error tv_open(const char* path, tv_model** model);

typedef struct tv_options {
  uint64_t size;        // of this struct, in bytes; tv_options_defaults sets it
  uint64_t threads;     // as tv_open_threads says
  uint64_t max_memory;  // bytes; as tv_open_limited says
} tv_options;

// Sets options to one thread and the default limit. `size` is sizeof(tv_options).
TV_API void tv_options_defaults(tv_options* options, size_t size);

// As tv_open; `options` may be NULL for the defaults.
TV_API tv_error tv_open_with(const char* path, const tv_options* options, tv_model** model);

// As tv_open, with `threads` threads, 1 to 64, that share the work of large matrices. They belong
// to the model and help one stream at a time; other streams run on their own thread meanwhile. They
// sleep when idle. The text does not depend on their number. If the system cannot start all of
// them, there are fewer.
TV_API tv_error tv_open_threads(const char* path, unsigned threads, tv_model** model);

// As tv_open_threads. The model and one stream may take `max_memory` bytes; if they would take more
// the result is TV_ERROR_LIMIT, before the memory is taken. 0 is what the other functions allow: 40
// MiB, and 128 bytes for each byte of the file.
TV_API tv_error tv_open_limited(const char* path, unsigned threads, uint64_t max_memory,
                                tv_model** model);

// As tv_open, tv_open_with and tv_open_limited, for the bytes of a file. They are not needed
// afterwards.
TV_API tv_error tv_open_memory(const void* bytes, size_t size, tv_model** model);
TV_API tv_error tv_open_memory_with(const void* bytes, size_t size, const tv_options* options,
                                    tv_model** model);
TV_API tv_error tv_open_memory_limited(const void* bytes, size_t size, unsigned threads,
                                       uint64_t max_memory, tv_model** model);

TV_API void tv_close(tv_model* model);

// The sample rate in hertz of the audio that streams take; 0 if the model has no speech card or is
// NULL.
TV_API uint32_t tv_sample_rate(const tv_model* model);

// How many tokens the model tells apart, the blank among them: the values of a frame of its output.
// 0 if the model has no speech card or is NULL.
TV_API uint32_t tv_token_count(const tv_model* model);

// What a token adds to a text; that of the blank means nothing. NULL if there is no such token.
// Valid until the model is closed.
TV_API const char* tv_token_text(const tv_model* model, uint32_t token);

// The token that adds nothing. 0 if the model has no speech card or is NULL.
TV_API uint32_t tv_blank(const tv_model* model);

// Seconds from one frame of the output to the next; 0 if the model has no speech card or is NULL.
TV_API double tv_frame_seconds(const tv_model* model);

// The instruction set in use, such as "avx2". The environment variable TINYVOX_ISA, read by
// tv_open, selects one. "" if `model` is NULL. Valid for the life of the process.
TV_API const char* tv_isa(const tv_model* model);

// Opens a stream for one utterance at a time, and allocates all memory that it needs. Only for a
// model that reads backwards in time does it allocate more later, to keep the whole utterance. On
// failure `*stream` is NULL.
TV_API tv_error tv_stream_open(const tv_model* model, tv_stream** stream);

// Takes any number of samples of one channel at tv_sample_rate. The result does not depend on how
// the audio is cut into pieces. All work on the samples is done when this returns. `samples` may be
// NULL if `count` is 0.
TV_API tv_error tv_stream_feed(tv_stream* stream, const int16_t* samples, size_t count);

// As tv_stream_feed, for floating-point samples with full scale at -1 and 1; those beyond are taken
// as they are. TV_ERROR_ARGUMENT, and nothing is taken, if one is not a number or infinite.
TV_API tv_error tv_stream_feed_float(tv_stream* stream, const float* samples, size_t count);

// Ends the utterance: frames that waited for more audio become text. A second call does nothing.
TV_API tv_error tv_stream_finish(tv_stream* stream);

// The text recognized so far; after tv_stream_finish, all of it. No white space at its ends; "" if
// `stream` is NULL, or if another thread is using it (tv_error_message says so). Valid until the
// stream is fed, finished, reset or closed.
TV_API const char* tv_stream_text(tv_stream* stream);

// A second stream that has heard what this one has, and goes on by itself. To learn what the text
// would be if the utterance ended here, finish the copy; the stream itself is as it was. On failure
// `*copy` is NULL.
TV_API tv_error tv_stream_copy(tv_stream* stream, tv_stream** copy);

typedef struct tv_log_probabilities {
  const float* values;  // [frames, tokens]: natural logarithms
  size_t frames;
  size_t tokens;  // tv_token_count
} tv_log_probabilities;

// From now on the stream keeps the log-probability of every token at every frame, until they are
// taken or the stream is reset. It allocates for them while it hears.
TV_API tv_error tv_stream_keep_log_probabilities(tv_stream* stream);

// Gives those of the frames since the last call. Free them with tv_log_probabilities_free.
// TV_ERROR_ARGUMENT if the stream keeps none. On failure `*taken` is NULL.
TV_API tv_error tv_stream_log_probabilities(tv_stream* stream, tv_log_probabilities** taken);
TV_API void tv_log_probabilities_free(tv_log_probabilities* taken);

// Starts the next utterance. Allocates nothing.
TV_API tv_error tv_stream_reset(tv_stream* stream);

TV_API void tv_stream_close(tv_stream* stream);

// Beam search. A search says how texts are looked for: with which language model, and which hot
// words. Streams that are opened with it keep what it says at that time, and may outlive it. Close
// it with tv_search_close. Do not change or close it while another thread uses it.

typedef struct tv_search tv_search;

typedef struct tv_search_options {
  uint64_t size;               // of this struct, in bytes; tv_search_defaults sets it
  const char* language_model;  // path of a .tvlm file; NULL: no words are known
  // The bytes of such a file, if there is no path; NULL: none. They are copied.
  const void* language_model_bytes;
  uint64_t language_model_size;
  float alpha;               // weight of the language model; NaN: that of its file
  float beta;                // bonus for each word; NaN: that of the language model's file
  uint32_t beam;             // texts that are kept, 1 to 100,000
  int open_vocabulary;       // not 0: words that the language model does not have may be heard
  int characters;            // not 0: each character is a word of the language model
  uint32_t cutoff_tokens;    // of each frame, only so many tokens count, the likeliest
  float cutoff_probability;  // and no more of them than have so much together, up to 1
  uint32_t reserved;         // 0
} tv_search_options;

// Sets options to no language model, alpha and beta of its file (0.93 and 1.18 where it has none),
// beam 100, closed vocabulary, 40 tokens a frame. `size` is sizeof(tv_search_options).
TV_API void tv_search_defaults(tv_search_options* options, size_t size);

// Makes a search for a model; `options` may be NULL for the defaults. TV_ERROR_ARGUMENT for options
// out of their range, and for a language model with no word that tokens can spell. On failure
// `*search` is NULL.
TV_API tv_error tv_search_open(const tv_model* model, const tv_search_options* options,
                               tv_search** search);

// Takes other options on, and keeps the hot words. On failure nothing is changed.
TV_API tv_error tv_search_change(tv_search* search, const tv_search_options* options);

// Streams that are opened from now on hear a word, or words with a space between, more readily, by
// a natural logarithm; below 0, less. TV_ERROR_ARGUMENT, and nothing is changed, for one with a
// character that no token gives, and for a word to erase that is no hot word.
TV_API tv_error tv_search_add_hot_word(tv_search* search, const char* word, float boost);
TV_API tv_error tv_search_erase_hot_word(tv_search* search, const char* word);
TV_API tv_error tv_search_clear_hot_words(tv_search* search);

TV_API void tv_search_close(tv_search* search);

// As tv_stream_open, for a stream that is decoded by a beam search. `search` may be NULL for greedy
// decoding.
TV_API tv_error tv_stream_open_search(const tv_model* model, const tv_search* search,
                                      tv_stream** stream);

typedef struct tv_token {
  const char* text;
  uint64_t frame;  // of the output, at which it came
  double start;    // seconds from the beginning
} tv_token;

typedef struct tv_transcript {
  const char* text;
  const tv_token* tokens;
  size_t token_count;
  double confidence;  // natural logarithm; comparable between texts of one utterance
} tv_transcript;

typedef struct tv_result {
  const tv_transcript* transcripts;  // the likeliest first
  size_t count;
} tv_result;

// The `count` likeliest texts so far, or fewer; after tv_stream_finish, of the utterance. No two
// are the same. Free the result with tv_result_free. TV_ERROR_ARGUMENT if the stream decodes
// greedily. On failure `*result` is NULL.
TV_API tv_error tv_stream_best(tv_stream* stream, size_t count, tv_result** result);
TV_API void tv_result_free(tv_result* result);

// The likeliest texts of a whole utterance, at most `texts`, as tv_stream_best gives them.
TV_API tv_error tv_recognize(const tv_model* model, const tv_search* search, const int16_t* samples,
                             size_t count, size_t texts, tv_result** result);

// The text of a whole utterance, as a stream gives it. Free it with tv_string_free. `search` may be
// NULL for greedy decoding. On failure `*text` is NULL.
TV_API tv_error tv_transcribe(const tv_model* model, const tv_search* search,
                              const int16_t* samples, size_t count, char** text);
TV_API void tv_string_free(char* text);

#ifdef __cplusplus
}
#endif

#endif  // TINYVOX_H
