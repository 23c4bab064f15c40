// CTC decoding, frame by frame: call begin, then step for each frame, then ask for the text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "budget.h"
#include "decode_greedy.h"
#include "word_scores.h"

namespace tinyvox {

// A text scores the natural logarithm of its probability by the acoustic model, and for each word
// alpha * ln P(word | words before it) + beta, as in DeepSpeech.
struct BeamSettings {
  size_t beam = 100;
  float alpha = 1, beta = 0;
  // Of a frame, only the most likely tokens go on: so many, and no more once their probabilities
  // add up to so much.
  size_t cutoff_tokens = 40;
  float cutoff_probability = 1;
  // Of paths of probabilities p that spell the same text, (sum p^s)^(1/s) counts: 1 is their sum,
  // infinity the best alone. 0: 1 if words are known, else 2, which loses fewer words.
  float sharpness = 0;
  // Whether texts stay one that the language model can tell apart no more, the best of them.
  bool recombine = true;
  std::vector<HotWord> hot_words;
  uint64_t max_memory = search_memory;  // bytes for the words, hot words and one decoder
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
// recognition using bi-directional recurrent DNNs", 2014, algorithm 1.
class BeamDecoder {
 public:
  // Raises std::invalid_argument for settings out of their range, and hot words that tokens cannot
  // spell; LimitError if all would take more memory than it may, before it is taken.
  explicit BeamDecoder(const BeamSearch& search);

  void begin();
  void step(const float* log_probabilities);  // [tokens]

  // The `count` best texts so far, the best first, all different: of hypotheses with the same text
  // the best one. `final` if the utterance is over, so that the last word is complete.
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
  void recombine();
  void release(const std::vector<Hypothesis>& old);
  void make_room();
  void commit();
  void drop_others();

  std::shared_ptr<const Vocabulary> vocabulary_;
  BeamSettings settings_;
  WordScores words_;
  bool recombines_;
  float sharpness_;
  double offset_ = 0;  // what was taken off the scores so far, so that the best is 0
  uint64_t frame_ = 0;
  float threshold_ = 0;  // a candidate at or below it is not in the next beam
  PrefixTree prefixes_;
  FrameLists frames_;
  std::vector<Hypothesis> beam_, stays_, next_, dropped_;
  std::vector<int32_t> found_;  // places in next_, by what prefixes will score
  std::vector<Candidate> candidates_;
  std::vector<float> likelihood_;    // [tokens]: minus infinity if cut off
  std::vector<uint32_t> likely_;     // the tokens that are not, but for the blank; likeliest first
  std::vector<uint8_t> ends_word_;   // [tokens]: whether it holds a space
  std::vector<int32_t> child_of_;    // [tokens]: the place whose child by it is in the beam
  std::vector<uint32_t> committed_;  // tokens that all of the beam begins with
  std::vector<uint64_t> committed_frames_;
};

}  // namespace tinyvox
