// What words a decoder knows, and how likely each is after others.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lexicon.h"
#include "ngram.h"

namespace tinyvox {

// Any number of decoders share one.
struct Vocabulary {
  Alphabet alphabet;
  std::shared_ptr<const NgramModel> model;  // or null
  std::shared_ptr<const Lexicon> lexicon;   // null if there are no words to know of
  bool closed = true;                       // there are no words but those of the lexicon
  bool characters = false;                  // each character is a word; a space is nothing else
  float unknown = 0;  // natural logarithm of the probability of an unknown word without context
};

struct VocabularyOptions {
  bool closed = true;
  bool characters = false;         // only together with `closed`
  std::vector<std::string> words;  // in place of all words of the model, if there are any
  std::vector<std::string> more;   // besides; if the model does not know one, it is unknown to it
};

// `model` may be null. Raises std::invalid_argument if tokens can spell none of the words.
std::shared_ptr<const Vocabulary> make_vocabulary(Alphabet alphabet,
                                                  std::shared_ptr<const NgramModel> model,
                                                  const VocabularyOptions& options);

}  // namespace tinyvox
