// The C example that transcribes a WAV file, with a hostile file. wav_example.c makes a function of
// it: it ends with status 0, or with 1 and a message.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "target.h"
#include "tinyvox.h"

extern "C" int transcribe_main(int count, char** arguments);

namespace tinyvox::fuzz {
namespace {

// A model, and a file of this process alone, which is removed at its end.
struct Files {
  std::string program = "transcribe", model = TINYVOX_SEEDS "/tvx/card-log_mel.tvx";
  std::string audio = std::filesystem::temp_directory_path() /
                      ("tinyvox-fuzz-" + std::to_string(getpid()) + ".wav");

  Files() {
    tv_model* opened = nullptr;
    if (tv_open(model.c_str(), &opened)) fault(tv_error_message());
    tv_close(opened);
  }
  ~Files() {
    std::error_code ignored;
    std::filesystem::remove(audio, ignored);
  }
};

constexpr uint32_t rates[] = {8000, 16000, 44100};
constexpr uint32_t sizes[] = {0,  1,          2,          15,         16,        18,
                              40, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};

void put(Bytes& out, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) out.push_back(static_cast<uint8_t>(value >> 8 * i));
}

void put(Bytes& out, const char* tag) {
  for (size_t i = 0; i < 4; ++i) out.push_back(static_cast<uint8_t>(tag[i]));
}

// A file of a few chunks, whose sizes may lie.
Bytes make_wav(Random& random) {
  constexpr uint32_t formats[] = {1, 1, 1, 3, 0xFFFE}, bits[] = {16, 16, 16, 8, 24, 32, 64};
  constexpr const char* tags[] = {"fmt ", "data", "LIST", "fact"};
  Bytes out;
  put(out, "RIFF");
  put(out, random.pick(sizes), 4);
  put(out, "WAVE");
  for (uint32_t chunk = 0, count = random.between(1, 4); chunk < count; ++chunk) {
    const uint32_t kind = random.one_in(3) ? random.below(4) : std::min(chunk, 1u);
    const uint32_t length = kind == 0 ? random.one_in(2) ? 16 : 40 : random.below(2000);
    put(out, tags[kind]);
    put(out, random.one_in(3) ? random.pick(sizes) : length, 4);
    const size_t start = out.size();
    if (kind == 0) {
      put(out, random.pick(formats), 2);
      put(out, random.one_in(4) ? random.below(3) : 1, 2);
      put(out, random.one_in(4) ? random.pick(rates) : 16000, 4);
      put(out, 32000, 4);
      put(out, 2, 2);
      put(out, random.pick(bits), 2);
    }
    while (out.size() < start + length + length % 2) put(out, random.next(), 1);
  }
  return out;
}

}  // namespace

Reached try_input(std::span<const uint8_t> bytes) {
  static Files files;
  std::ofstream(files.audio, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  char* arguments[] = {files.program.data(), files.model.data(), files.audio.data(), nullptr};
  const int status = transcribe_main(3, arguments);
  if (status != 0 && status != 1) fault("the example ends with " + std::to_string(status));
  return status ? Reached::refused : Reached::ran;
}

Bytes next_input(std::span<const uint8_t> bytes, std::span<const uint8_t>, size_t most,
                 Random& random) {
  Bytes result = random.one_in(2) ? make_wav(random) : Bytes(bytes.begin(), bytes.end());
  if (random.one_in(2)) mutate_bytes(result, random);
  if (result.size() > most) result.resize(most);
  return result;
}

}  // namespace tinyvox::fuzz
