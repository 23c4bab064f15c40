#include "ngram.h"

#include <nanobind/ndarray.h>

#include <cstring>

#include "bindings.h"
#include "ngram_file.h"

namespace nb = nanobind;

namespace tinyvox {
namespace {

using State = NgramModel::State;
using Ids = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

nb::bytes to_python(const State& state) { return nb::bytes(&state, sizeof state); }

// Bytes from outside may be anything.
State state_of(const NgramModel& model, const nb::bytes& bytes) {
  State state;
  if (bytes.size() == sizeof state) std::memcpy(&state, bytes.data(), sizeof state);
  if (bytes.size() != sizeof state || !model.holds(state))
    throw nb::value_error("not a state of this language model");
  return state;
}

uint32_t checked(const NgramModel& model, int64_t id) {
  if (id < 0 || id >= model.size())
    throw nb::value_error(("the id " + std::to_string(id) + " is of no word, expected 0 to " +
                           std::to_string(model.size() - 1))
                              .c_str());
  return static_cast<uint32_t>(id);
}

nb::tuple score(const NgramModel& model, const nb::bytes& in, int64_t id) {
  State out;
  const float log10 = model.score(state_of(model, in), checked(model, id), out);
  return nb::make_tuple(log10, to_python(out));
}

// Scores of ids after one another; a start of a sentence begins anew, and counts for nothing.
nb::object score_all(const NgramModel& model, Ids ids, const nb::bytes& start) {
  State state = state_of(model, start);
  for (size_t i = 0; i < ids.size(); ++i) checked(model, ids.data()[i]);
  auto* scores = new float[ids.size()];
  nb::capsule owner(scores, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  {
    nb::gil_scoped_release unlocked;
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto id = static_cast<uint32_t>(ids.data()[i]);
      if (id == NgramModel::sentence_start) {
        state = model.begin(true);
        scores[i] = 0;
      } else {
        scores[i] = model.score(state, id, state);
      }
    }
  }
  return nb::cast(nb::ndarray<nb::numpy, float>(scores, {ids.size()}, owner));
}

nb::list words(const NgramModel& model) {
  nb::list result;
  for (const std::string& word : model.words()) result.append(nb::bytes(word.data(), word.size()));
  return result;
}

uint32_t find(const NgramModel& model, const nb::bytes& word) {
  return model.id({word.c_str(), word.size()});
}

nb::bytes word(const NgramModel& model, int64_t id) {
  const std::string found = model.word(checked(model, id));
  return nb::bytes(found.data(), found.size());
}

nb::object weights(const NgramModel& model) {
  const auto found = model.weights();
  if (!found) return nb::none();
  return nb::make_tuple(found->alpha, found->beta);
}

void check(const nb::bytes& bytes) {
  nb::gil_scoped_release unlocked;
  parse_ngrams({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

// Names are passed on as Python's own functions do it; errors are theirs too.
void open(NgramModel* self, nb::object path) {
  with_path(path, [&](const char* name) { new (self) NgramModel(name); });
}

}  // namespace

void bind_ngram(nb::module_& m) {
  m.def("check_ngrams", &check, nb::arg("bytes"),
        "Raises FormatError unless the bytes are those of a .tvlm file.");
  nb::class_<NgramModel>(m, "NgramModel")
      .def("__init__", &open, nb::arg("path"))
      .def_prop_ro("order", &NgramModel::order)
      .def_prop_ro("size", &NgramModel::size)
      .def_prop_ro("weights", &weights)
      .def("words", &words)
      .def("id", &find, nb::arg("word"))
      .def("word", &word, nb::arg("id"))
      .def(
          "begin",
          [](const NgramModel& model, bool after_sentence_start) {
            return to_python(model.begin(after_sentence_start));
          },
          nb::arg("after_sentence_start"))
      .def("score", &score, nb::arg("state"), nb::arg("id"))
      .def("score_all", &score_all, nb::arg("ids"), nb::arg("state"));
}

}  // namespace tinyvox
