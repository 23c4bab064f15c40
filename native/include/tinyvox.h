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
// Errors. Functions that can fail return TV_OK, which is 0, or a code; tv_error_message() then says
// in a line what happened. A NULL where something is needed is TV_ERROR_ARGUMENT. No exception
// leaves the library, and it prints nothing.
//
// Ownership. What tv_open and tv_stream_open give is freed by tv_close and tv_stream_close, which
// take NULL too. A stream keeps what it needs of its model: the two may be closed in any order.
// Strings belong to the library.
//
// Threads. Models can be opened by several threads at once, and one model used by several: each
// with streams of its own. A stream is used by one thread at a time. Nothing is closed while
// another thread uses it.
//
// Strings are UTF-8; a path is passed to the system as it is.
#ifndef TINYVOX_H
#define TINYVOX_H

#include <stddef.h>
#include <stdint.h>

#define TV_VERSION "0.1.0"

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

// Numbers stay what they are; later versions may add some.
typedef enum tv_error {
  TV_OK = 0,
  TV_ERROR_ARGUMENT = 1,   // an argument is NULL, or out of its range
  TV_ERROR_FILE = 2,       // the file cannot be read
  TV_ERROR_FORMAT = 3,     // no .tvx file, damaged, too large to run, or of another version
  TV_ERROR_MEMORY = 4,     // out of memory
  TV_ERROR_ISA = 5,        // TINYVOX_ISA names an instruction set that does not run here
  TV_ERROR_NO_SPEECH = 6,  // the model has no speech card: it takes no audio and gives no text
  TV_ERROR_FINISHED = 7,   // the stream is finished: reset it, or open another
  TV_ERROR_BROKEN = 8,     // the stream ran out of memory and lost audio: reset it, or close it
  TV_ERROR_INTERNAL = 9    // a mistake in tinyvox
} tv_error;

// TV_VERSION of the library that runs, which may be another than that of this header.
TV_API const char* tv_version(void);

// The name of a code, such as "TV_ERROR_FILE"; "unknown" for other numbers.
TV_API const char* tv_error_name(int code);

// The last error of the calling thread, one line without a line feed; "" where there was none.
// Valid until the next error of this thread. Calls that succeed leave it as it is.
TV_API const char* tv_error_message(void);

// Opens a .tvx file and checks all of it. `*model` is NULL where this fails.
//
// The file is mapped while it is opened, and not needed afterwards: it may be replaced or deleted
// then. Whoever cuts or overwrites it meanwhile ends the process, as with any mapped file; rename a
// new one over it.
TV_API tv_error tv_open(const char* path, tv_model** model);

// The same with so many threads, 1 to 64, that share the work of large matrices. They are the
// model's: one stream at a time has their help, others work alone meanwhile. They sleep when idle.
// The text does not depend on them. Where the system has no room for all, there are fewer.
TV_API tv_error tv_open_threads(const char* path, unsigned threads, tv_model** model);

// tv_open for the bytes of a file, which are not needed afterwards either.
TV_API tv_error tv_open_memory(const void* bytes, size_t size, tv_model** model);

TV_API void tv_close(tv_model* model);

// Samples a second that the model's streams take; 0 where it has no speech card, or is NULL.
TV_API uint32_t tv_sample_rate(const tv_model* model);

// The instruction set in use, such as "avx2"; the environment variable TINYVOX_ISA forces one at
// tv_open. "" where `model` is NULL. Valid for ever.
TV_API const char* tv_isa(const tv_model* model);

// A stream for an utterance, with all the memory that it takes; only a model that reads backwards
// in time has it keep the utterance until the end. `*stream` is NULL where this fails.
TV_API tv_error tv_stream_open(const tv_model* model, tv_stream** stream);

// Takes samples of one channel at tv_sample_rate, any number: how audio is cut into pieces changes
// nothing. The work is done by the time it returns. `samples` may be NULL where `count` is 0.
TV_API tv_error tv_stream_feed(tv_stream* stream, const int16_t* samples, size_t count);

// The utterance is over: what waited for more audio becomes text. A second time does nothing.
TV_API tv_error tv_stream_finish(tv_stream* stream);

// What was recognized so far; after tv_stream_finish, all of it. No white space at its ends; ""
// where `stream` is NULL. Valid until the stream is fed, finished, reset or closed.
TV_API const char* tv_stream_text(const tv_stream* stream);

// Back to the beginning, for the next utterance; takes no memory.
TV_API tv_error tv_stream_reset(tv_stream* stream);

TV_API void tv_stream_close(tv_stream* stream);

#ifdef __cplusplus
}
#endif

#endif  // TINYVOX_H
