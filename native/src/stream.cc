#include "stream.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <stdexcept>
#include <string>

#include "budget.h"

namespace tinyvox {
namespace {

constexpr uint64_t max_rehearsal = uint64_t{1} << 20;  // frames
constexpr uint64_t max_visits = uint64_t{1} << 22;     // of queues, in a rehearsal

// What a queue gets: its peak, and room for a block that arrives.
size_t room(const Frames& queue) { return queue.peak() + max_frames; }

}  // namespace

Stream::Stream(std::shared_ptr<const Model> model) : Stream(std::move(model), Counting{}) {
  allocate();
  reset();
}

// It points into itself, so values are copied one by one.
Stream::Stream(const Stream& other) : Stream(other.model_) {
  for (size_t i = 0; i < edges_.size(); ++i)
    std::copy(other.edges_[i].begin(), other.edges_[i].end(), edges_[i].begin());
  outputs_ = other.outputs_;
  states_ = other.states_;
  started_ = other.started_;
  finished_ = other.finished_;
}

// Finds out what the stream needs.
Stream::Stream(std::shared_ptr<const Model> model, Counting)
    : model_(std::move(model)),
      work_{model_->kernels(), MatrixWork(model_->threads(), Memory::measured), {}} {
  for (const Model::Step& step : model_->steps()) step.layer->reserve(work_.matrix);
  assign_stores();
  make_queues(true);
  check_span();
  rehearse();
}

size_t Stream::bytes_of(std::shared_ptr<const Model> model) {
  return Stream(std::move(model), Counting{}).counted_bytes();
}

// Whether a step takes every frame as soon as it comes.
bool Stream::keeps_none(size_t step) const {
  const Window window = model_->steps()[step].layer->window();
  return model_->steps()[step].inputs.size() == 1 && window.before + window.after == 0 &&
         window.reach == 1 && window.stride == 1 && !window.whole;
}

// Queues in which frames wait have a store of their own. The others hold frames only from the step
// that makes them to the step that takes them, so one store serves several, one after the other.
void Stream::assign_stores() {
  using Use = std::pair<size_t, size_t>;  // the step that takes, and the store
  const std::vector<Model::Step>& steps = model_->steps();
  std::vector<std::vector<std::pair<size_t, size_t>>> readers(steps.size() + 1);  // [signal]
  for (size_t step = 0; step < steps.size(); ++step) {
    store_of_.emplace_back(steps[step].inputs.size());
    for (size_t i = 0; i < steps[step].inputs.size(); ++i)
      readers[steps[step].inputs[i]].emplace_back(step, i);
  }
  size_t count = 0;
  std::priority_queue<Use, std::vector<Use>, std::greater<>> in_use;
  for (size_t signal = 0; signal < readers.size(); ++signal)  // which step signal - 1 makes
    for (const auto& [step, input] : readers[signal]) {
      size_t& store = store_of_[step][input];
      if (!keeps_none(step) || in_use.empty() || in_use.top().first + 1 >= signal) {
        store = count++;
      } else {
        store = in_use.top().second;
        in_use.pop();
      }
      if (keeps_none(step)) in_use.emplace(step, store);
    }
  stores_.resize(count);
}

void Stream::make_queues(bool counting) {
  counting_ = counting;
  const auto size = [&](uint32_t signal) { return counting ? 0 : model_->signal_size(signal); };
  edges_.clear();
  for (const Model::Step& step : model_->steps()) {
    const std::vector<size_t>& store = store_of_[edges_.size()];
    std::vector<Edge>& edges = edges_.emplace_back();
    for (size_t i = 0; i < store.size(); ++i)
      edges.push_back({Frames(size(step.inputs[i]), stores_[store[i]])});
  }
  const auto last = static_cast<uint32_t>(model_->steps().size());
  outputs_ = Frames(size(last), output_store_);
  consumers_.assign(last + 1, {});
  for (size_t i = 0; i < edges_.size(); ++i)
    for (size_t j = 0; j < edges_[i].size(); ++j)
      consumers_[model_->steps()[i].inputs[j]].push_back(&edges_[i][j].frames);
  consumers_[last].push_back(&outputs_);
}

// Runs an utterance in which frames are only counted, to find how many of them wait in each queue.
void Stream::rehearse() {
  reset();
  started_ = true;
  for (uint64_t left = std::min(span() + 4 * max_frames, max_rehearsal); left > 0;) {
    const size_t frames = std::min<uint64_t>(left, max_frames);
    for (Frames* consumer : consumers_[0]) consumer->extend(frames);
    advance_all();
    outputs_.drop(outputs_.count());
    left -= frames;
  }
  finish();
}

// A rehearsal visits every queue for every block of frames.
void Stream::check_span() const {
  const uint64_t blocks = span() / max_frames + 4;
  if (blocks * edge_count() > max_visits)
    throw LimitError("its " + std::to_string(edge_count()) + " connections of layers look over " +
                     std::to_string(span()) + " frames of the input, the limit is 2^27 frames" +
                     " times connections; take fewer layers, or shorter windows");
}

size_t Stream::edge_count() const {
  size_t total = 0;
  for (const std::vector<Edge>& edges : edges_) total += edges.size();
  return total;
}

// The number of input frames after which every window has been full once.
uint64_t Stream::span() const {
  uint64_t total = 0;
  for (const Model::Step& step : model_->steps()) {
    const Window window = step.layer->window();
    const uint64_t frames = window.before + window.reach + window.stride + window.after;
    total += std::min(frames * model_->signal_stride(step.inputs[0]), max_rehearsal);
  }
  return total;
}

// What `allocate` takes after a rehearsal.
size_t Stream::counted_bytes() const {
  size_t values = room(outputs_) * model_->output_size(), scratch = 0;
  for (size_t store : store_sizes()) values += store;
  for (const Model::Step& step : model_->steps()) {
    values += step.layer->state_size();
    scratch = std::max(scratch, step.layer->scratch_size());
  }
  return (values + scratch) * sizeof(float) + work_.matrix.bytes();
}

// The floats of each store, after a rehearsal.
std::vector<size_t> Stream::store_sizes() const {
  std::vector<size_t> sizes(stores_.size());
  for (size_t i = 0; i < edges_.size(); ++i)
    for (size_t j = 0; j < edges_[i].size(); ++j) {
      const size_t frame = model_->signal_size(model_->steps()[i].inputs[j]);
      size_t& size = sizes[store_of_[i][j]];
      size = std::max(size, room(edges_[i][j].frames) * frame);
    }
  return sizes;
}

void Stream::allocate() {
  size_t scratch = 0, inputs = 0;
  for (const Model::Step& step : model_->steps()) {
    scratch = std::max(scratch, step.layer->scratch_size());
    inputs = std::max(inputs, step.inputs.size());
    states_.emplace_back(step.layer->state_size());
  }
  work_.matrix.take();
  work_.scratch.resize(scratch);
  inputs_.resize(inputs);
  const size_t output_room = room(outputs_);
  const std::vector<size_t> sizes = store_sizes();
  for (size_t i = 0; i < sizes.size(); ++i) stores_[i].resize(sizes[i]);
  make_queues(false);
  outputs_.reserve(output_room);
}

void Stream::reset() {
  started_ = finished_ = false;
  outputs_.clear();
  for (std::vector<float>& state : states_) std::fill(state.begin(), state.end(), 0.0f);
  for (size_t i = 0; i < edges_.size(); ++i)
    for (size_t j = 0; j < edges_[i].size(); ++j) {
      Edge& edge = edges_[i][j];
      edge.frames.clear();
      edge.owed = 0;
      edge.taken = false;
      const size_t size = model_->signal_size(model_->steps()[i].inputs[j]);
      const Window window = model_->steps()[i].layer->window();
      pad(edge, window.before, size, window.padding);
    }
}

void Stream::pad(Edge& edge, size_t frames, size_t size, float value) {
  float* space = edge.frames.extend(frames);
  if (!counting_) std::fill_n(space, frames * size, value);
}

// No id is larger than 2^20, so floats hold them all.
void Stream::check_ids(std::span<const float> ids) const {
  const float count = static_cast<float>(model_->ids());
  const auto wrong = std::find_if(ids.begin(), ids.end(), [&](float id) {
    return !(id >= 0 && id < count && static_cast<float>(static_cast<uint32_t>(id)) == id);
  });
  if (wrong == ids.end()) return;
  throw std::invalid_argument(
      "token id " + std::to_string(*wrong) + " at frame " + std::to_string(wrong - ids.begin()) +
      ", expected a whole number from 0 to " + std::to_string(model_->ids() - 1));
}

void Stream::push(const float* features, size_t frames) {
  if (model_->ids()) check_ids({features, frames * model_->input_size()});
  started_ |= frames > 0;
  const size_t size = model_->input_size();
  for (size_t done = 0; done < frames; done += max_frames) {
    const size_t some = std::min(frames - done, max_frames);
    for (Frames* consumer : consumers_[0])
      std::copy_n(features + done * size, some * size, consumer->extend(some));
    advance_all();
  }
}

void Stream::advance_all() {
  for (size_t step = 0; step < edges_.size(); ++step) advance(step);
}

void Stream::finish() {
  finished_ = true;
  if (!started_) return;
  for (size_t step = 0; step < edges_.size(); ++step) {
    const Window window = model_->steps()[step].layer->window();
    for (size_t j = 0; j < edges_[step].size(); ++j) {
      Edge& edge = edges_[step][j];
      if (edge.frames.added() == window.before) continue;  // no frames: the padding makes none
      pad(edge, window.after, model_->signal_size(model_->steps()[step].inputs[j]), window.padding);
    }
    advance(step);
  }
}

void Stream::advance(size_t step) {
  for (Edge& edge : edges_[step]) {
    const size_t dropped = std::min(edge.owed, edge.frames.count());
    edge.frames.drop(dropped);
    edge.owed -= dropped;
  }
  const Window window = model_->steps()[step].layer->window();
  if (window.reduces) return reduce(step);
  const bool whole = window.whole;
  for (size_t left = ready(step); left > 0;) {
    const size_t frames = whole ? left : std::min(left, max_frames);
    run(step, frames);
    left -= frames;
  }
}

// Takes the frames that wait into the state of a step, which gives one frame at the end.
void Stream::reduce(size_t step) {
  Edge& edge = edges_[step][0];
  if (model_->steps()[step].layer->window().whole) {
    if (finished_ && edge.frames.count() > 0) run(step, edge.frames.count());
    return;
  }
  if (!counting_)
    model_->steps()[step].layer->take(edge.frames.data(), edge.frames.count(),
                                      states_[step].data());
  edge.taken |= edge.frames.count() > 0;
  edge.frames.drop(edge.frames.count());
  if (!finished_ || !edge.taken) return;
  edge.taken = false;
  run(step, 1);
}

// How many frames a step can compute now.
size_t Stream::ready(size_t step) const {
  const Window window = model_->steps()[step].layer->window();
  size_t count = SIZE_MAX;
  for (const Edge& edge : edges_[step]) {
    if (edge.frames.added() == window.before) return 0;  // padding alone
    if (!window.spreads || &edge != edges_[step].data())
      count = std::min(count, edge.frames.count());
  }
  if (window.whole) return finished_ ? count : 0;
  return count < window.reach ? 0 : (count - window.reach) / window.stride + 1;
}

void Stream::run(size_t step, size_t frames) {
  const std::vector<Frames*>& consumers = consumers_[step + 1];
  const Window window = model_->steps()[step].layer->window();
  const size_t made = window.reduces ? 1 : frames * window.makes;
  for (Frames* consumer : consumers) consumer->extend(made);
  if (!counting_ && !consumers.empty()) {
    const std::vector<Edge>& edges = edges_[step];
    for (size_t i = 0; i < edges.size(); ++i) inputs_[i] = edges[i].frames.data();
    float* out = consumers[0]->last(made);
    model_->steps()[step].layer->run({inputs_.data(), edges.size()}, frames, out,
                                     states_[step].data(), work_);
    const size_t values = made * model_->steps()[step].signal.size();
    for (size_t i = 1; i < consumers.size(); ++i)
      std::copy_n(out, values, consumers[i]->last(made));
  }
  consume(step, frames);
}

void Stream::consume(size_t step, size_t frames) {
  const size_t done = frames * model_->steps()[step].layer->window().stride;
  for (Edge& edge : edges_[step]) {
    const size_t dropped = std::min(done, edge.frames.count());
    edge.frames.drop(dropped);
    edge.owed += done - dropped;
  }
}

size_t Stream::bytes() const {
  size_t values = output_store_.capacity() + work_.scratch.size();
  for (const Frames::Store& store : stores_) values += store.capacity();
  for (const auto& state : states_) values += state.size();
  return values * sizeof(float) + work_.matrix.bytes();
}

}  // namespace tinyvox
