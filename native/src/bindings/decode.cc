#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "decode_ctc.h"
#include "exclusive.h"

namespace nb = nanobind;

namespace tinyvox {
namespace {

using Frames2d = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using HotWordList = std::vector<std::pair<std::string, float>>;
using Shared = std::shared_ptr<const Vocabulary>;

// As Python sees it.
struct VocabularyHandle {
  Shared shared;
};

using Beam = Exclusive<BeamDecoder>;

void open_vocabulary(VocabularyHandle* self, const std::vector<std::string>& tokens,
                     uint32_t blank, std::shared_ptr<NgramModel> model, bool closed,
                     bool characters, std::vector<std::string> words,
                     std::vector<std::string> more) {
  if (blank >= tokens.size()) throw nb::value_error("blank is not the number of a token");
  VocabularyOptions options{closed, characters, std::move(words), std::move(more)};
  nb::gil_scoped_release unlocked;
  new (self) VocabularyHandle{make_vocabulary(Alphabet(tokens, blank), std::move(model), options)};
}

void open_decoder(Beam* self, const VocabularyHandle& vocabulary, size_t beam, float alpha,
                  float beta, size_t cutoff_tokens, float cutoff_probability,
                  const HotWordList& hot_words) {
  BeamSettings settings{beam, alpha, beta, cutoff_tokens, cutoff_probability, {}};
  for (const auto& [text, boost] : hot_words) settings.hot_words.push_back({text, boost});
  new (self) Beam(vocabulary.shared, settings);
}

void step(Beam& self, Frames2d frames) {
  self.use([&](BeamDecoder& decoder) {
    const size_t tokens = decoder.vocabulary().alphabet.tokens();
    if (frames.shape(1) != tokens)
      throw nb::value_error(("frames of " + std::to_string(frames.shape(1)) +
                             " values, expected one for each of " + std::to_string(tokens) +
                             " tokens")
                                .c_str());
    nb::gil_scoped_release unlocked;
    for (size_t i = 0; i < frames.shape(0); ++i) decoder.step(frames.data() + i * tokens);
  });
}

nb::list best(Beam& self, size_t count, bool final) {
  return self.use([&](BeamDecoder& decoder) {
    nb::list result;
    for (const Transcript& each : decoder.best(count, final))
      result.append(nb::make_tuple(decoder.text(each), each.tokens, each.frames, each.score));
    return result;
  });
}

}  // namespace

void bind_decode(nb::module_& m) {
  nb::class_<VocabularyHandle>(m, "Vocabulary", "The words of a decoder, and how likely they are.")
      .def("__init__", &open_vocabulary, nb::arg("tokens"), nb::arg("blank"),
           nb::arg("model").none() = nb::none(), nb::kw_only(), nb::arg("closed") = true,
           nb::arg("characters") = false, nb::arg("words") = std::vector<std::string>(),
           nb::arg("more") = std::vector<std::string>())
      .def_prop_ro("words", [](const VocabularyHandle& self) {
        return self.shared->lexicon ? self.shared->lexicon->words() : 0;
      });
  nb::class_<Beam>(m, "BeamDecoder", "Prefix beam search over one utterance.")
      .def("__init__", &open_decoder, nb::arg("vocabulary"), nb::kw_only(), nb::arg("beam"),
           nb::arg("alpha"), nb::arg("beta"), nb::arg("cutoff_tokens"),
           nb::arg("cutoff_probability"), nb::arg("hot_words"))
      .def("begin", [](Beam& self) { self.use([](BeamDecoder& decoder) { decoder.begin(); }); })
      .def("step", &step, nb::arg("frames"))
      .def("best", &best, nb::arg("count"), nb::arg("final"))
      .def_prop_ro("bytes", [](Beam& self) {
        return self.use([](BeamDecoder& decoder) { return decoder.bytes(); });
      });
}

}  // namespace tinyvox
