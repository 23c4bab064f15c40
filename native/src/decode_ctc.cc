#include "decode_ctc.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <stdexcept>
#include <string_view>

namespace tinyvox {
namespace {

constexpr std::string_view white = " \t\n\v\f\r";

constexpr float never = -std::numeric_limits<float>::infinity();
// Orders candidates, and hypotheses.
constexpr auto worse = [](const auto& a, const auto& b) { return a.score < b.score; };

constexpr float ln_10 = std::numbers::ln10_v<float>;
constexpr float unheard = -1000;  // of the unfinished word at the end: the score of DeepSpeech
constexpr uint32_t before_words = Lexicon::none - 1;  // a state of the lexicon: a space must come
// In place of a list of frames: that of the hypothesis at place 0, and this frame; -3 for place 1.
constexpr int32_t entered = -2;
constexpr size_t most_beam = 100'000;
constexpr size_t prefixes_each = 64, most_prefixes_each = 1024;  // of a hypothesis, in memory

// ln(e^a + e^b)
float log_add(float a, float b) {
  if (a < b) std::swap(a, b);
  const float difference = b - a;
  return difference > -16 ? a + std::log1p(std::exp(difference)) : a;  // below the rounding
}

const BeamSettings& checked(const BeamSettings& settings) {
  if (settings.beam < 1 || settings.beam > most_beam)
    throw std::invalid_argument("the beam width is " + std::to_string(settings.beam) +
                                ", expected 1 to " + std::to_string(most_beam));
  if (!std::isfinite(settings.alpha) || settings.alpha < 0 || !std::isfinite(settings.beta))
    throw std::invalid_argument("alpha is " + std::to_string(settings.alpha) + " and beta " +
                                std::to_string(settings.beta) +
                                ", expected finite numbers, alpha not below 0");
  if (settings.cutoff_tokens < 1 || !(settings.cutoff_probability > 0))
    throw std::invalid_argument("a cut-off of tokens leaves none; expected it above 0");
  return settings;
}

}  // namespace

GreedyDecoder::GreedyDecoder(std::span<const std::string> tokens, uint32_t blank)
    : tokens_(tokens), blank_(blank), last_(blank) {
  text_.reserve(reserved_bytes);
}

void GreedyDecoder::begin() {
  last_ = blank_;
  text_.clear();
  gap_.clear();
}

void GreedyDecoder::step(const float* scores) {
  const auto best =
      static_cast<uint32_t>(std::max_element(scores, scores + tokens_.size()) - scores);
  if (best != last_ && best != blank_) append(tokens_[best]);
  last_ = best;
}

void GreedyDecoder::append(const std::string& token) {
  for (char c : token) {
    if (white.find(c) == white.npos) {
      text_ += gap_;
      text_ += c;
      gap_.clear();
    } else if (!text_.empty()) {
      gap_ += c;
    }
  }
}

BeamDecoder::BeamDecoder(const BeamSearch& search)
    : vocabulary_(search.vocabulary),
      settings_(checked(search.settings)),
      hot_words_(settings_.hot_words, vocabulary_->alphabet, !vocabulary_->characters),
      prefixes_(settings_.beam * prefixes_each),
      frames_(settings_.beam * prefixes_each) {
  const Alphabet& alphabet = vocabulary_->alphabet;
  likelihood_.resize(alphabet.tokens());
  likely_.reserve(alphabet.tokens());
  child_of_.resize(alphabet.tokens());
  for (uint32_t token = 0; token < alphabet.tokens(); ++token) {
    const auto units = alphabet.units(token);
    ends_word_.push_back(std::find(units.begin(), units.end(), alphabet.space()) != units.end());
  }
  beam_.reserve(settings_.beam);
  stays_.reserve(settings_.beam);
  next_.reserve(settings_.beam);
  candidates_.reserve(4 * settings_.beam + alphabet.tokens());
  committed_.reserve(GreedyDecoder::reserved_bytes / sizeof(uint32_t));
  committed_frames_.reserve(committed_.capacity());
  begin();
}

void BeamDecoder::begin() {
  prefixes_.clear();
  frames_.clear();
  committed_.clear();
  committed_frames_.clear();
  offset_ = 0;
  frame_ = 0;
  Prefix& root = prefixes_[prefixes_.root()];
  root.place = 0;
  root.token = vocabulary_->alphabet.blank();
  root.word = start_of_words();
  root.hot = hot_words_.start();
  root.word_gain = std::numeric_limits<float>::quiet_NaN();
  if (vocabulary_->model) root.context = vocabulary_->model->begin(true);
  beam_.assign(1, {prefixes_.root(), nowhere, never, 0, 0});
}

void BeamDecoder::step(const float* log_probabilities) {
  make_room();
  keep_likely(log_probabilities);
  stay();
  for (size_t place = 0; place < beam_.size(); ++place) expand(static_cast<int32_t>(place));
  keep_best();
  if (!candidates_.empty()) advance();
  ++frame_;
}

// Fills likelihood_ and likely_.
void BeamDecoder::keep_likely(const float* log_probabilities) {
  const size_t tokens = likelihood_.size(), most = std::min(settings_.cutoff_tokens, tokens);
  likely_.resize(tokens);
  std::iota(likely_.begin(), likely_.end(), 0u);
  const auto likelier = [&](uint32_t a, uint32_t b) {
    return log_probabilities[a] > log_probabilities[b] ||
           (log_probabilities[a] == log_probabilities[b] && a < b);
  };
  std::partial_sort(likely_.begin(), likely_.begin() + most, likely_.end(), likelier);
  likely_.resize(most);
  if (settings_.cutoff_probability < 1) {
    double sum = 0;
    const auto enough = [&](uint32_t token) {
      const bool reached = sum >= settings_.cutoff_probability;
      sum += std::exp(log_probabilities[token]);
      return reached;
    };
    likely_.erase(std::find_if(likely_.begin(), likely_.end(), enough), likely_.end());
  }
  std::fill(likelihood_.begin(), likelihood_.end(), never);
  for (uint32_t token : likely_) likelihood_[token] = log_probabilities[token];
  std::erase(likely_, vocabulary_->alphabet.blank());
}

// The candidates that have no token more; the threshold, if they alone fill a beam.
void BeamDecoder::stay() {
  const uint32_t blank = vocabulary_->alphabet.blank();
  stays_.clear();
  candidates_.clear();
  threshold_ = never;
  for (const Hypothesis& now : beam_) {
    const uint32_t token = prefixes_[now.prefix].token;
    Hypothesis& next = stays_.emplace_back(now);
    next.blank = now.score + likelihood_[blank];
    next.token = now.token + likelihood_[token];
    enter_again(next);
    next.score = log_add(next.blank, next.token);
    if (next.score > never)
      candidates_.push_back({next.score, static_cast<int32_t>(stays_.size() - 1), blank});
  }
  if (candidates_.size() == settings_.beam)
    threshold_ = std::min_element(candidates_.begin(), candidates_.end(), worse)->score;
}

// Adds the paths whose last token comes now, after the parent, if that is in the beam.
void BeamDecoder::enter_again(Hypothesis& next) {
  const Prefix& prefix = prefixes_[next.prefix];
  if (prefix.parent == nowhere || prefixes_[prefix.parent].place == nowhere) return;
  const Hypothesis& parent = beam_[prefixes_[prefix.parent].place];
  const bool repeated = prefixes_[prefix.parent].token == prefix.token;
  const float entering =
      (repeated ? parent.blank : parent.score) + likelihood_[prefix.token] + prefix.gain;
  if (entering == never) return;
  if (entering > std::max(next.token, next.blank))
    next.frames = entered - prefixes_[prefix.parent].place;
  next.token = log_add(next.token, entering);
}

void BeamDecoder::expand(int32_t place) {
  const Hypothesis& from = beam_[place];
  const Prefix& prefix = prefixes_[from.prefix];
  for (int32_t child = prefix.child; child != nowhere; child = prefixes_[child].sibling)
    if (prefixes_[child].place != nowhere) child_of_[prefixes_[child].token] = place + 1;
  const Lexicon* const lexicon = vocabulary_->lexicon.get();
  if (lexicon && vocabulary_->closed && vocabulary_->alphabet.tokens_are_units() &&
      !vocabulary_->characters && lexicon->children(prefix.word) < likely_.size())
    expand_lexicon(from, place);
  else
    expand_all(from, place);
  for (int32_t child = prefix.child; child != nowhere; child = prefixes_[child].sibling)
    child_of_[prefixes_[child].token] = 0;
}

// As expand_all does, by way of the few letters that may follow.
void BeamDecoder::expand_lexicon(const Hypothesis& from, int32_t place) {
  const Lexicon& lexicon = *vocabulary_->lexicon;
  Prefix& prefix = prefixes_[from.prefix];
  const float most = hot_words_.most(prefix.hot);
  const uint32_t first = lexicon.first(prefix.word);
  for (uint32_t next = first; next < first + lexicon.children(prefix.word); ++next) {
    const uint32_t token = lexicon.unit(next);
    if (from.score + likelihood_[token] + most > threshold_)
      consider(from, place, token, gain(prefix, token, nullptr));
  }
  const uint16_t space = vocabulary_->alphabet.space();
  if (space < likelihood_.size() && likelihood_[space] > never)
    consider(from, place, space, gain(prefix, space, nullptr));
}

void BeamDecoder::expand_all(const Hypothesis& from, int32_t place) {
  Prefix& prefix = prefixes_[from.prefix];
  // Tokens of several letters may end several hot words.
  const bool letters = vocabulary_->alphabet.tokens_are_units() || hot_words_.empty();
  const float most = letters ? hot_words_.most(prefix.hot) : -never;
  for (uint32_t token : likely_) {
    const bool hopeless = from.score + likelihood_[token] + most <= threshold_;
    if (hopeless && !vocabulary_->lexicon) break;
    // The end of a word may add anything; letters alone add what hot words do.
    if (!hopeless || ends_word_[token] || vocabulary_->characters)
      consider(from, place, token, gain(prefix, token, nullptr));
  }
}

void BeamDecoder::consider(const Hypothesis& from, int32_t place, uint32_t token, float gain) {
  const bool repeated = prefixes_[from.prefix].token == token;
  const float score = (repeated ? from.blank : from.score) + likelihood_[token] + gain;
  if (!(score > threshold_) || child_of_[token] == place + 1) return;
  candidates_.push_back({score, place, token});
  if (candidates_.size() >= 4 * settings_.beam) keep_best();
}

void BeamDecoder::keep_best() {
  if (candidates_.size() <= settings_.beam) return;
  const auto last = candidates_.begin() + static_cast<ptrdiff_t>(settings_.beam) - 1;
  std::nth_element(candidates_.begin(), last, candidates_.end(),
                   [](const Candidate& a, const Candidate& b) { return worse(b, a); });
  threshold_ = std::max(threshold_, last->score);
  candidates_.resize(settings_.beam);
}

// Makes the candidates the beam.
void BeamDecoder::advance() {
  const float best = std::max_element(candidates_.begin(), candidates_.end(), worse)->score;
  next_.clear();
  for (const Hypothesis& old : beam_) prefixes_[old.prefix].place = nowhere;
  for (const Candidate& candidate : candidates_) move(candidate);
  for (Hypothesis& now : next_) {
    now.token -= best;
    now.blank -= best;
    now.score -= best;
  }
  offset_ += best;
  for (const Hypothesis& old : beam_) {
    prefixes_.release(old.prefix);
    frames_.release(old.frames);
  }
  beam_.swap(next_);
}

// Adds a candidate to the next beam.
void BeamDecoder::move(const Candidate& candidate) {
  const Hypothesis& from = beam_[candidate.from];
  Hypothesis next = stays_[candidate.from];
  if (candidate.token != vocabulary_->alphabet.blank()) {
    int32_t child = prefixes_.child(from.prefix, candidate.token);
    if (child == nowhere) {
      child = prefixes_.add(from.prefix, candidate.token);
      Prefix& added = prefixes_[child];
      added.word_gain = std::numeric_limits<float>::quiet_NaN();
      added.gain = gain(prefixes_[from.prefix], candidate.token, &added);
    }
    next = {child, frames_.add(from.frames, frame_), candidate.score, never, candidate.score};
  } else if (next.frames <= entered) {
    next.frames = frames_.add(beam_[entered - next.frames].frames, frame_);
  } else {
    frames_.use(next.frames);
  }
  prefixes_[next.prefix].place = static_cast<int32_t>(next_.size());
  next_.push_back(next);
}

// Room for a beam of new prefixes.
void BeamDecoder::make_room() {
  const size_t beam = settings_.beam;
  const auto full = [&] { return prefixes_.room() < beam || frames_.room() < beam; };
  if (full()) commit();
  if (full() && prefixes_.size() >= most_prefixes_each * beam) drop_others();
  if (prefixes_.room() < beam) prefixes_.grow();
  if (frames_.room() < beam) frames_.grow();
}

// Takes what all hypotheses begin with out of the trees.
void BeamDecoder::commit() {
  const size_t before = committed_.size();
  prefixes_.commit(committed_);
  if (committed_.size() == before) return;
  const Hypothesis& best = *std::max_element(beam_.begin(), beam_.end(), worse);
  std::vector<uint64_t> frames;
  frames_.read(best.frames, frames);
  const auto count = static_cast<ptrdiff_t>(committed_.size() - before);
  committed_frames_.insert(committed_frames_.end(), frames.begin(), frames.begin() + count);
  for (Hypothesis& each : beam_)
    each.frames = frames_.keep(each.frames, prefixes_.depth(each.prefix));
}

// Hypotheses that have disagreed for very long fill the memory: the best one decides, but for the
// later half of its tokens.
void BeamDecoder::drop_others() {
  const int32_t best = std::max_element(beam_.begin(), beam_.end(), worse)->prefix;
  int32_t decided = best;
  for (size_t i = prefixes_.depth(best) / 2; i > 0; --i) decided = prefixes_[decided].parent;
  std::vector<Hypothesis> kept;
  for (const Hypothesis& each : beam_) {
    int32_t above = each.prefix;
    while (above != nowhere && above != decided) above = prefixes_[above].parent;
    if (above == decided) kept.push_back(each);
  }
  for (const Hypothesis& each : beam_) prefixes_[each.prefix].place = nowhere;
  for (size_t i = 0; i < kept.size(); ++i)
    prefixes_[kept[i].prefix].place = static_cast<int32_t>(i);
  for (const Hypothesis& each : beam_) {
    if (prefixes_[each.prefix].place >= 0) continue;
    prefixes_.release(each.prefix);
    frames_.release(each.frames);
  }
  beam_.assign(kept.begin(), kept.end());
  commit();
}

uint32_t BeamDecoder::start_of_words() const {
  const bool waits = vocabulary_->closed && vocabulary_->alphabet.spaces_lead();
  return vocabulary_->lexicon && waits ? before_words : Lexicon::root;
}

// The largest chance of the words that a state of the lexicon may lead to.
float BeamDecoder::chance(uint32_t state) const {
  if (state == before_words) return 0;
  return state == Lexicon::none ? vocabulary_->unknown : vocabulary_->lexicon->chance(state);
}

// What a token adds to the score of a prefix; minus infinity if it may not follow. If there is
// `to`, sets its states.
float BeamDecoder::gain(Prefix& from, uint32_t token, Prefix* to) const {
  float total = vocabulary_->lexicon ? gain_of_words(from, token, to) : 0;
  if (hot_words_.empty()) return total;
  uint32_t hot = from.hot;
  for (uint16_t unit : vocabulary_->alphabet.units(token)) {
    const uint32_t next = hot_words_.next(hot, unit);
    total += hot_words_.gain(hot, next);
    hot = next;
  }
  if (to) to->hot = hot;
  return total;
}

float BeamDecoder::gain_of_words(Prefix& from, uint32_t token, Prefix* to) const {
  const Vocabulary& known = *vocabulary_;
  const auto units = known.alphabet.units(token);
  NgramModel::State context = from.context;
  uint32_t word = from.word;
  float total = 0;
  for (const uint16_t& unit : units) {
    if (unit == known.alphabet.space() && !known.characters) {
      if (word == Lexicon::root && known.closed) return never;
      if (word != Lexicon::root && word != before_words) {
        const bool first = &unit == units.data();
        total += first ? end_of_word(from) : score_word(context, word, context);
        if (first) context = from.after_word;
      }
      word = Lexicon::root;
    } else {
      if (word == before_words) return never;
      const uint32_t next = word == Lexicon::none ? word : known.lexicon->child(word, unit);
      if (next == Lexicon::none && known.closed) return never;
      total += settings_.alpha * (chance(next) - chance(word));
      word = next;
      if (known.characters && known.lexicon->word(word) != Lexicon::none) {
        total += score_word(context, word, context);
        word = Lexicon::root;
      }
    }
  }
  if (to) {
    to->word = word;
    to->context = context;
  }
  return total;
}

// What the end of the word of a prefix adds to its score.
float BeamDecoder::end_of_word(Prefix& from) const {
  if (std::isnan(from.word_gain))
    from.word_gain = score_word(from.context, from.word, from.after_word);
  return from.word_gain;
}

// The same for the word at a state of the lexicon; `after` may be `context`.
float BeamDecoder::score_word(const NgramModel::State& context, uint32_t state,
                              NgramModel::State& after) const {
  const uint32_t found = state == Lexicon::none ? state : vocabulary_->lexicon->word(state);
  if (found == Lexicon::none && vocabulary_->closed) return never;
  const float before = settings_.alpha * chance(state);  // has been added letter by letter
  if (!vocabulary_->model) return settings_.beta - before;
  const uint32_t word = found == Lexicon::none ? NgramModel::unknown : found;
  return settings_.alpha * ln_10 * vocabulary_->model->score(context, word, after) +
         settings_.beta - before;
}

// What the end of the utterance adds to the score of a prefix.
float BeamDecoder::last_gain(const Prefix& prefix) const {
  const float hot = hot_words_.empty() ? 0 : hot_words_.end(prefix.hot);
  const uint32_t word = prefix.word;
  if (!vocabulary_->lexicon || word == Lexicon::root || word == before_words) return hot;
  NgramModel::State after;
  const float gain = score_word(prefix.context, word, after);
  return hot + (gain > never ? gain : settings_.alpha * (unheard - chance(word)));
}

std::vector<Transcript> BeamDecoder::best(size_t count, bool final) const {
  std::vector<std::pair<double, const Hypothesis*>> order;
  for (const Hypothesis& each : beam_)
    order.emplace_back(offset_ + each.score + (final ? last_gain(prefixes_[each.prefix]) : 0),
                       &each);
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(),
                    std::greater<>());
  std::vector<Transcript> result;
  for (size_t i = 0; i < count; ++i) {
    Transcript& transcript =
        result.emplace_back(Transcript{committed_, committed_frames_, order[i].first});
    prefixes_.read(order[i].second->prefix, transcript.tokens);
    frames_.read(order[i].second->frames, transcript.frames);
  }
  return result;
}

std::string BeamDecoder::text(const Transcript& transcript) const {
  std::string text;
  for (uint32_t token : transcript.tokens) text += vocabulary_->alphabet.text(token);
  const size_t first = text.find_first_not_of(white), last = text.find_last_not_of(white);
  return first == text.npos ? "" : text.substr(first, last - first + 1);
}

size_t BeamDecoder::bytes() const {
  return prefixes_.bytes() + frames_.bytes() +
         (beam_.capacity() + stays_.capacity() + next_.capacity()) * sizeof(Hypothesis) +
         candidates_.capacity() * sizeof(Candidate);
}

}  // namespace tinyvox
