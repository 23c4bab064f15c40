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

struct VocabularyHandle {
  std::shared_ptr<const Vocabulary> shared;
};

// As Python sees it: of several threads that call at once, all but the first get a RuntimeError.
using Decoder = Exclusive<BeamDecoder>;

// Bytes, which need not be UTF-8.
std::vector<std::string> strings(const std::vector<nb::bytes>& list) {
  std::vector<std::string> result;
  for (const nb::bytes& each : list) result.emplace_back(each.c_str(), each.size());
  return result;
}

void open_vocabulary(VocabularyHandle* self, const std::vector<std::string>& tokens, uint32_t blank,
                     std::shared_ptr<NgramModel> model, VocabularyOptions options) {
  if (blank >= tokens.size()) throw nb::value_error("blank is not the number of a token");
  nb::gil_scoped_release unlocked;
  new (self) VocabularyHandle{make_vocabulary(Alphabet(tokens, blank), std::move(model), options)};
}

void open_search(BeamSearch* self, const VocabularyHandle& vocabulary, size_t beam, float alpha,
                 float beta, size_t cutoff_tokens, float cutoff_probability, float sharpness,
                 bool recombine, const HotWordList& hot_words, uint64_t max_memory) {
  BeamSettings settings{.beam = beam,
                        .alpha = alpha,
                        .beta = beta,
                        .cutoff_tokens = cutoff_tokens,
                        .cutoff_probability = cutoff_probability,
                        .sharpness = sharpness,
                        .recombine = recombine,
                        .hot_words = {},
                        .max_memory = max_memory ? max_memory : search_memory};
  for (const auto& [text, boost] : hot_words) settings.hot_words.push_back({text, boost});
  const BeamDecoder checked({vocabulary.shared, settings});
  new (self) BeamSearch{vocabulary.shared, std::move(settings)};
}

void step(Decoder& self, Frames2d frames) {
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

nb::list best(Decoder& self, size_t count, bool final) {
  return self.use(
      [&](BeamDecoder& decoder) { return transcripts(decoder, decoder.best(count, final)); });
}

}  // namespace

nb::list transcripts(const BeamDecoder& decoder, const std::vector<Transcript>& found) {
  nb::list result;
  for (const Transcript& each : found) {
    const std::string text = decoder.text(each);
    result.append(
        nb::make_tuple(nb::bytes(text.data(), text.size()), each.tokens, each.frames, each.score));
  }
  return result;
}

void bind_decode(nb::module_& m) {
  nb::class_<VocabularyHandle>(m, "Vocabulary", "The words of a decoder, and how likely they are.")
      .def(
          "__init__",
          [](VocabularyHandle* self, const std::vector<nb::bytes>& tokens, uint32_t blank,
             std::shared_ptr<NgramModel> model, bool closed, bool characters,
             std::vector<std::string> words, std::vector<std::string> more) {
            open_vocabulary(self, strings(tokens), blank, std::move(model),
                            {closed, characters, std::move(words), std::move(more)});
          },
          nb::arg("tokens"), nb::arg("blank"), nb::arg("model").none() = nb::none(), nb::kw_only(),
          nb::arg("closed"), nb::arg("characters"), nb::arg("words"), nb::arg("more"))
      .def_prop_ro("words", [](const VocabularyHandle& self) {
        return self.shared->lexicon ? self.shared->lexicon->words() : 0;
      });
  nb::class_<BeamSearch>(m, "BeamSearch", "How a decoder searches; any number of them share it.")
      .def("__init__", &open_search, nb::arg("vocabulary"), nb::kw_only(), nb::arg("beam"),
           nb::arg("alpha"), nb::arg("beta"), nb::arg("cutoff_tokens"),
           nb::arg("cutoff_probability"), nb::arg("sharpness"), nb::arg("recombine"),
           nb::arg("hot_words"), nb::arg("max_memory"));
  nb::class_<Decoder>(m, "BeamDecoder", "Prefix beam search over one utterance.")
      .def(
          "__init__", [](Decoder* self, const BeamSearch& search) { new (self) Decoder(search); },
          nb::arg("search"))
      .def("begin", [](Decoder& self) { self.use([](BeamDecoder& each) { each.begin(); }); })
      .def("step", &step, nb::arg("frames"))
      .def("best", &best, nb::arg("count"), nb::arg("final"))
      .def_prop_ro("bytes", [](Decoder& self) {
        return self.use([](BeamDecoder& each) { return each.bytes(); });
      });
}

}  // namespace tinyvox
