// An n-gram language model in a mapped .tvlm file. docs/tvlm.md is the specification.
//
// Nothing is unpacked on opening: a query reads the packed bits. All of it is const and allocates
// nothing but strings, so any number of threads may use one model, each with states of its own.
// Scores are base-10 logarithms, as those of ARPA files and KenLM.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tinyvox {

class NgramModel {
 public:
  static constexpr uint32_t max_order = 6;
  // Ids of the words that every model has: <unk>, <s> and </s>.
  static constexpr uint32_t unknown = 0, sentence_start = 1, sentence_end = 2;

  // What the next score depends on: the contexts, from one word to `length` words, that may
  // continue. Plain bytes, and what follows `length` is zero: two states of one model that are
  // equal give equal scores for ever.
  struct State {
    uint32_t length = 0;
    std::array<uint32_t, max_order - 1> contexts{};  // by number, shortest first

    bool operator==(const State&) const = default;
  };

  struct StateHash {
    size_t operator()(const State& state) const {
      uint64_t hash = state.length;
      for (uint32_t context : state.contexts) hash = (hash ^ context) * 0x9E3779B97F4A7C15u;
      return hash ^ hash >> 32;
    }
  };

  // What a decoder multiplies the logarithms of probabilities with, and adds for each word.
  struct Weights {
    float alpha, beta;
  };

  // Raises std::system_error where the file cannot be read, FormatError where it is damaged.
  explicit NgramModel(const char* path);
  explicit NgramModel(std::span<const uint8_t> bytes);  // which must outlive the model
  ~NgramModel();
  NgramModel(const NgramModel&) = delete;
  NgramModel& operator=(const NgramModel&) = delete;

  // After <s>, or after nothing at all.
  State begin(bool after_sentence_start) const;

  // Whether `state` could be one of this model; for bytes that come from outside.
  bool holds(const State& state) const;

  // The logarithm of the probability of `word` after `in`; `out` is the state after both, and may
  // be `in` itself. `word` is below size().
  float score(const State& in, uint32_t word, State& out) const;

  // The id of a word; `unknown` if the model does not have it.
  uint32_t id(std::string_view word) const;
  std::string word(uint32_t id) const;
  std::vector<std::string> words() const;  // all of them, by id; faster than one by one

  uint32_t size() const;                   // number of words, the three above among them
  uint32_t order() const;                  // words of the longest n-gram
  std::optional<Weights> weights() const;  // where the file has them

 private:
  struct Parts;
  std::unique_ptr<const Parts> parts_;
};

}  // namespace tinyvox
