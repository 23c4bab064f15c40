// CTC decoding, frame by frame: call begin, then step for each frame, then ask for the text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hot_words.h"
#include "prefixes.h"
#include "vocabulary.h"

namespace tinyvox {

// Takes the most likely token of each frame, merges repeats and drops blanks. Source: Graves et
// al., "Connectionist temporal classification", 2006, section 3.2 (best path decoding).
class GreedyDecoder {
 public:
  // A decoder allocates only for a text longer than this many bytes, which is hours of speech.
  static constexpr size_t reserved_bytes = 1u << 18;

  GreedyDecoder(std::span<const std::string> tokens, uint32_t blank);

  void begin();
  void step(const float* scores);                    // [tokens]
  const std::string& text() const { return text_; }  // without white space at its ends

 private:
  void append(const std::string& token);

  std::span<const std::string> tokens_;
  uint32_t blank_, last_;
  std::string text_, gap_;  // gap_: white space that is added once other text follows
};

// A text scores the natural logarithm of its probability by the acoustic model, and for each word
// alpha * ln P(word | words before it) + beta, as in DeepSpeech.
struct BeamSettings {
  size_t beam = 100;
  float alpha = 1, beta = 0;
  // Of a frame, only the most likely tokens go on: so many, and no more once their probabilities
  // add up to so much.
  size_t cutoff_tokens = 40;
  float cutoff_probability = 1;
  std::vector<HotWord> hot_words;
};

// All that decoders of one kind need.
struct BeamSearch {
  std::shared_ptr<const Vocabulary> vocabulary;
  BeamSettings settings;
};

struct Transcript {
  std::vector<uint32_t> tokens;
  std::vector<uint64_t> frames;  // at which each token came
  double score = 0;
};

// Prefix beam search. Source: Hannun et al., "First-pass large vocabulary continuous speech
// recognition using bi-directional recurrent DNNs", 2014, algorithm 1. While a word is being
// spelled its score holds that of the likeliest word it may become, as far as that is known
// without the words before it.
class BeamDecoder {
 public:
  // Raises std::invalid_argument for settings out of their range, and hot words that tokens cannot
  // spell.
  explicit BeamDecoder(const BeamSearch& search);

  void begin();
  void step(const float* log_probabilities);  // [tokens]

  // The `count` best texts so far, the best first; `final` if the utterance is over, so that the
  // last word is complete.
  std::vector<Transcript> best(size_t count, bool final) const;
  // Without white space at its ends.
  std::string text(const Transcript& transcript) const;

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  std::shared_ptr<const Vocabulary> shared_vocabulary() const { return vocabulary_; }
  size_t bytes() const;  // but for the vocabulary, and for tokens that are final

 private:
  // Logarithms of the probabilities that the frames so far give the prefix and end in its last
  // token, or in a blank; and their sum. The best hypothesis has 0.
  struct Hypothesis {
    int32_t prefix, frames;
    float token, blank, score;
  };
  // A prefix of the next beam: one of this beam, or a new one with one token more.
  struct Candidate {
    float score;
    int32_t from;    // place in the beam
    uint32_t token;  // the blank: the prefix stays as it is
  };

  void keep_likely(const float* log_probabilities);
  void stay();
  void enter_again(Hypothesis& hypothesis);
  void expand(int32_t place);
  void expand_lexicon(const Hypothesis& from, int32_t place);
  void expand_all(const Hypothesis& from, int32_t place);
  void consider(const Hypothesis& from, int32_t place, uint32_t token, float gain);
  void keep_best();
  void advance();
  void move(const Candidate& candidate);
  void make_room();
  void commit();
  void drop_others();

  uint32_t start_of_words() const;
  float chance(uint32_t state) const;
  float gain(Prefix& from, uint32_t token, Prefix* to) const;
  float gain_of_words(Prefix& from, uint32_t token, Prefix* to) const;
  float end_of_word(Prefix& from) const;
  float score_word(const NgramModel::State& in, uint32_t state, NgramModel::State& out) const;
  float last_gain(const Prefix& prefix) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BeamSettings settings_;
  HotWords hot_words_;
  double offset_ = 0;  // what was taken off the scores so far, so that the best is 0
  uint64_t frame_ = 0;
  float threshold_ = 0;  // a candidate at or below it is not in the next beam
  PrefixTree prefixes_;
  FrameLists frames_;
  std::vector<Hypothesis> beam_, stays_, next_;
  std::vector<Candidate> candidates_;
  std::vector<float> likelihood_;    // [tokens]: minus infinity if cut off
  std::vector<uint32_t> likely_;     // the tokens that are not, but for the blank; likeliest first
  std::vector<uint8_t> ends_word_;   // [tokens]: whether it holds a space
  std::vector<int32_t> child_of_;    // [tokens]: the place whose child by it is in the beam
  std::vector<uint32_t> committed_;  // tokens that all of the beam begins with
  std::vector<uint64_t> committed_frames_;
};

}  // namespace tinyvox
