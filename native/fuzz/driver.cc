// Fuzzes with any compiler, for so many seconds or executions: changes the inputs of a corpus again
// and again, and keeps those that are read and reach code which none before them reached.
//
//   fuzz_file [--seconds N] [--executions N] [--seed N] [--size BYTES] [--save FOLDER] CORPUS ...
//
// First every file of the corpus is tried as it is, so `--executions 0 FILE` repeats one input. The
// last line on standard output is JSON. An input that ends the process is saved in FOLDER first.
// The same seed and number of executions give the same inputs.
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "bytes.h"
#include "target.h"

namespace {

using namespace tinyvox::fuzz;
using Clock = std::chrono::steady_clock;

constexpr unsigned most_seconds = 20;            // of one input
constexpr size_t most_places = size_t{1} << 16;  // as much as a cache holds
constexpr size_t most_kept = 4000;

// Which places in the code were reached, by a hash of their address.
bool reached[most_places];
size_t places = 0;

// The input that is tried, and what was found so far: both must be told when the process ends.
Bytes current;
std::filesystem::path folder = ".";

struct Counts {
  uint64_t executions = 0, read = 0, ran = 0, seed = 0, kept = 0;
  Clock::time_point start = Clock::now();

  double seconds() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
} counts;

void report(int faults) {
  const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "{\"executions\": %llu, \"seconds\": %.1f, \"read\": %llu, \"ran\": %llu, \"faults\": %d, "
      "\"seed\": %llu, \"kept\": %llu, \"places\": %zu}\n",
      number(counts.executions), counts.seconds(), number(counts.read), number(counts.ran), faults,
      number(counts.seed), number(counts.kept), places);
  std::fflush(stdout);
}

[[noreturn]] void end_by_fault() {
  char name[32];
  std::snprintf(name, sizeof name, "crash-%08x", tinyvox::crc32(current));
  const std::string path = folder / name;
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(current.data()),
             static_cast<std::streamsize>(current.size()));
  std::fprintf(stderr, "the input is saved as %s\n", path.c_str());
  report(1);
  _exit(1);
}

// Sanitizers abort, and so does the C++ library.
void on_signal(int signal) {
  if (signal == SIGVTALRM) std::fputs("fault: an input takes too long\n", stderr);
  end_by_fault();
}

// Of this process, however busy the machine is.
void limit_time(int seconds) {
  const itimerval timer{{0, 0}, {seconds, 0}};
  setitimer(ITIMER_VIRTUAL, &timer, nullptr);
}

struct Options {
  double seconds = 1e9;
  uint64_t executions = UINT64_MAX, seed = 1;
  size_t size = 4096;
  std::vector<Bytes> corpus;
};

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// In the order of their names, so that a seed gives the same inputs everywhere.
void add_corpus(std::vector<Bytes>& corpus, const std::filesystem::path& path) {
  std::vector<std::filesystem::path> paths;
  if (!std::filesystem::exists(path)) {
    std::fprintf(stderr, "%s: there is no such file or folder\n", path.c_str());
    std::exit(2);
  }
  if (std::filesystem::is_directory(path))
    for (const auto& entry : std::filesystem::directory_iterator(path)) paths.push_back(entry);
  else
    paths.push_back(path);
  std::sort(paths.begin(), paths.end());
  for (const auto& each : paths) corpus.push_back(read_file(each));
}

Options parse_options(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i], value = i + 1 < count ? arguments[i + 1] : "";
    if (name == "--seconds")
      options.seconds = std::stod(value);
    else if (name == "--executions")
      options.executions = std::stoull(value);
    else if (name == "--seed")
      options.seed = std::stoull(value);
    else if (name == "--size")
      options.size = std::stoull(value);
    else if (name == "--save")
      folder = value;
    else
      add_corpus(options.corpus, name);
    i += name.starts_with("--");
  }
  return options;
}

// Whether the input is worth keeping: it reached a new place. What is refused is not, for hardly
// any change of it is read.
bool execute(Bytes input) {
  const size_t before = places;
  current = std::move(input);
  limit_time(most_seconds);
  const Reached far = try_input(current);
  limit_time(0);
  ++counts.executions;
  counts.read += far != Reached::refused;
  counts.ran += far == Reached::ran;
  return places > before && far != Reached::refused;
}

void keep(std::vector<Bytes>& corpus, size_t seeds, Random& random) {
  if (corpus.size() < most_kept)
    corpus.push_back(current);
  else
    corpus[seeds + random.below(corpus.size() - seeds)] = current;
}

}  // namespace

// Called at every branch of the code that is compiled with -fsanitize-coverage=trace-pc. Addresses
// are taken from this function's own, for the system loads a program anywhere.
extern "C" void __sanitizer_cov_trace_pc() {
  const auto at = reinterpret_cast<uintptr_t>(__builtin_return_address(0)) -
                  reinterpret_cast<uintptr_t>(&__sanitizer_cov_trace_pc);
  bool& place = reached[(at ^ at >> 16) % most_places];
  if (place) return;
  place = true;
  ++places;
}

// No input may take much memory: what the files may ask for is bounded by their shapes. Freed
// memory is not kept for long, and only a few callers of an allocation, as inputs are many and
// small.
extern "C" const char* __asan_default_options() {
  return "abort_on_error=1:allocator_may_return_null=0:max_allocation_size_mb=64:"
         "hard_rss_limit_mb=1024:quarantine_size_mb=4:malloc_context_size=4";
}
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

void tinyvox::fuzz::fault(const std::string& what) {
  std::fprintf(stderr, "fault: %s\n", what.c_str());
  end_by_fault();
}

int main(int count, char** arguments) {
  Options options = parse_options(count, arguments);
  if (options.corpus.empty()) {
    std::fprintf(stderr, "no corpus; name its folder\n");
    return 2;
  }
  std::signal(SIGVTALRM, on_signal);
  std::signal(SIGABRT, on_signal);
  std::vector<Bytes>& corpus = options.corpus;
  const size_t seeds = corpus.size();
  counts.seed = options.seed;
  for (size_t i = 0; i < seeds; ++i) execute(corpus[i]);
  Random random(options.seed);
  while (counts.executions - seeds < options.executions && counts.seconds() < options.seconds) {
    Bytes input = next_input(random.pick(corpus), random.pick(corpus), options.size, random);
    if (!execute(std::move(input))) continue;
    keep(corpus, seeds, random);
    ++counts.kept;
  }
  report(0);
}
