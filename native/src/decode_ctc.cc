#include "decode_ctc.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string_view>

namespace tinyvox {
namespace {

constexpr std::string_view white = " \t\n\v\f\r";

constexpr float never = -std::numeric_limits<float>::infinity();
// Orders candidates, and hypotheses.
constexpr auto worse = [](const auto& a, const auto& b) { return a.score < b.score; };

// In place of a list of frames: that of the hypothesis at place 0, and this frame; -3 for place 1.
constexpr int32_t entered = -2;
constexpr size_t most_beam = 100'000;
constexpr size_t prefixes_each = 64, most_prefixes_each = 1024;  // of a hypothesis, in memory

// ln(e^a + e^b), sharper: see BeamSettings.
float log_add(float a, float b, float sharpness) {
  if (a < b) std::swap(a, b);
  const float difference = sharpness * (b - a);
  return difference > -16 ? a + std::log1p(std::exp(difference)) / sharpness  // else the rounding
                          : a;
}

// The memory of a decoder for each hypothesis, once its trees are as large as they may be.
constexpr size_t bytes_each =
    most_prefixes_each * (PrefixTree::bytes_each + FrameLists::bytes_each);

void check_memory(const BeamSearch& search) {
  const BeamSettings& settings = search.settings;
  const Vocabulary& known = *search.vocabulary;
  Budget budget(settings.max_memory,
                "take a narrower beam, or fewer words and hot words, or pass a larger max_memory");
  if (known.lexicon) budget.spend(known.lexicon->bytes());
  budget.spend(HotWords::most_bytes(settings.hot_words, known.alphabet));
  budget.spend(settings.beam * bytes_each);
}

const BeamSettings& checked(const BeamSearch& search) {
  const BeamSettings& settings = search.settings;
  if (settings.beam < 1 || settings.beam > most_beam)
    throw std::invalid_argument("the beam width is " + std::to_string(settings.beam) +
                                ", expected 1 to " + std::to_string(most_beam));
  if (!std::isfinite(settings.alpha) || settings.alpha < 0 || !std::isfinite(settings.beta))
    throw std::invalid_argument("alpha is " + std::to_string(settings.alpha) + " and beta " +
                                std::to_string(settings.beta) +
                                ", expected finite numbers, alpha not below 0");
  if (!(settings.sharpness >= 0))
    throw std::invalid_argument("the sharpness is " + std::to_string(settings.sharpness) +
                                ", expected a number above 0, or infinity");
  if (settings.cutoff_tokens < 1 ||
      !(settings.cutoff_probability > 0 && settings.cutoff_probability <= 1))
    throw std::invalid_argument(
        "a cut-off is out of its range, expected 1 token or more, and a probability above 0, up to "
        "1");
  check_memory(search);
  return settings;
}

}  // namespace

BeamDecoder::BeamDecoder(const BeamSearch& search)
    : vocabulary_(search.vocabulary),
      settings_(checked(search)),
      words_(vocabulary_, settings_.alpha, settings_.beta, settings_.hot_words),
      recombines_(settings_.recombine && vocabulary_->model),
      sharpness_(settings_.sharpness > 0 ? settings_.sharpness
                 : vocabulary_->lexicon  ? 1
                                         : 2),
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
  if (recombines_) {
    dropped_.reserve(settings_.beam);
    found_.resize(std::bit_ceil(2 * settings_.beam));
  }
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
  root.word_gain = std::numeric_limits<float>::quiet_NaN();
  words_.begin(root);
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
    next.score = log_add(next.blank, next.token, sharpness_);
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
  next.token = log_add(next.token, entering, sharpness_);
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
  const float most = words_.most(prefix);
  const uint32_t first = lexicon.first(prefix.word);
  for (uint32_t next = first; next < first + lexicon.children(prefix.word); ++next) {
    const uint32_t token = lexicon.unit(next);
    if (from.score + likelihood_[token] + most > threshold_)
      consider(from, place, token, words_.gain(prefix, token, nullptr));
  }
  const uint16_t space = vocabulary_->alphabet.space();
  if (space < likelihood_.size() && likelihood_[space] > never)
    consider(from, place, space, words_.gain(prefix, space, nullptr));
}

void BeamDecoder::expand_all(const Hypothesis& from, int32_t place) {
  Prefix& prefix = prefixes_[from.prefix];
  const float most = words_.most(prefix);
  for (uint32_t token : likely_) {
    const bool hopeless = from.score + likelihood_[token] + most <= threshold_;
    if (hopeless && !vocabulary_->lexicon) break;
    // The end of a word may add anything; letters alone add what hot words do.
    if (!hopeless || ends_word_[token] || vocabulary_->characters)
      consider(from, place, token, words_.gain(prefix, token, nullptr));
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
  if (recombines_) recombine();
  for (size_t i = 0; i < next_.size(); ++i)
    prefixes_[next_[i].prefix].place = static_cast<int32_t>(i);
  for (Hypothesis& now : next_) {
    now.token -= best;
    now.blank -= best;
    now.score -= best;
  }
  offset_ += best;
  release(beam_);
  release(dropped_);
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
      added.gain = words_.gain(prefixes_[from.prefix], candidate.token, &added);
    }
    next = {child, frames_.add(from.frames, frame_), candidate.score, never, candidate.score};
  } else if (next.frames <= entered) {
    next.frames = frames_.add(beam_[entered - next.frames].frames, frame_);
  } else {
    frames_.use(next.frames);
  }
  next_.push_back(next);
}

// Of hypotheses that will score alike from now on, only the best stays.
void BeamDecoder::recombine() {
  std::fill(found_.begin(), found_.end(), nowhere);
  dropped_.clear();
  size_t kept = 0;
  for (const Hypothesis& each : next_) {
    const Prefix& prefix = prefixes_[each.prefix];
    size_t at = WordScores::future(prefix) & (found_.size() - 1);
    while (found_[at] != nowhere &&
           !WordScores::same_future(prefix, prefixes_[next_[found_[at]].prefix]))
      at = (at + 1) & (found_.size() - 1);
    if (found_[at] == nowhere) {
      found_[at] = static_cast<int32_t>(kept);
      next_[kept++] = each;
      continue;
    }
    Hypothesis& other = next_[found_[at]];
    dropped_.push_back(each);
    if (each.score > other.score) std::swap(other, dropped_.back());
  }
  next_.resize(kept);
}

void BeamDecoder::release(const std::vector<Hypothesis>& old) {
  for (const Hypothesis& each : old) {
    prefixes_.release(each.prefix);
    frames_.release(each.frames);
  }
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

std::vector<Transcript> BeamDecoder::best(size_t count, bool final) const {
  std::vector<std::pair<double, const Hypothesis*>> order;
  for (const Hypothesis& each : beam_)
    order.emplace_back(
        offset_ + each.score + (final ? words_.last_gain(prefixes_[each.prefix]) : 0), &each);
  std::make_heap(order.begin(), order.end());
  std::vector<Transcript> result;
  std::set<std::string> texts;
  for (auto end = order.end(); result.size() < count && end != order.begin(); --end) {
    std::pop_heap(order.begin(), end);
    const auto& [score, hypothesis] = *(end - 1);
    Transcript transcript{committed_, committed_frames_, score};
    prefixes_.read(hypothesis->prefix, transcript.tokens);
    if (!texts.insert(text(transcript)).second) continue;
    frames_.read(hypothesis->frames, transcript.frames);
    result.push_back(std::move(transcript));
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
         (beam_.capacity() + stays_.capacity() + next_.capacity() + dropped_.capacity()) *
             sizeof(Hypothesis) +
         candidates_.capacity() * sizeof(Candidate) + found_.capacity() * sizeof(int32_t);
}

}  // namespace tinyvox
