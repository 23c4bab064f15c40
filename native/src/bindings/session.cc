#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "exclusive.h"
#include "open.h"
#include "speech.h"

namespace nb = nanobind;

namespace tinyvox {
namespace {

using Frames2d = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Samples = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Shared = std::shared_ptr<const Model>;

struct Session {
  Shared model;
};

// Takes features, and gives outputs as soon as they are computed.
struct Features {
  explicit Features(const Session& session) : model(session.model), stream(session.model) {}

  Shared model;
  Stream stream;
  bool finished = false;
};

struct Audio {
  Audio(const Session& session, const BeamSearch* search) : stream(session.model, search) {}

  SpeechStream stream;
  bool finished = false;
};

// As Python sees them: of several threads that call at once, all but the first get a RuntimeError.
using FeatureUtterance = Exclusive<Features>;
using SpeechUtterance = Exclusive<Audio>;

void expect_open(bool finished) {
  if (finished) throw nb::value_error("the stream is finished; open another, or reset it");
}

const Speech& speech_of(const Model& model) {
  if (!model.speech()) throw nb::value_error("the file has no speech card, so it gives no text");
  return *model.speech();
}

void open(Session* self, nb::object path, int64_t threads, uint64_t max_memory) {
  if (threads < 1 || threads > static_cast<int64_t>(max_threads))
    throw nb::value_error(("threads are " + std::to_string(threads) + ", expected 1 to " +
                           std::to_string(max_threads))
                              .c_str());
  with_file(path, [&](std::span<const uint8_t> bytes) {
    new (self) Session{open_model(bytes, kernels(), {static_cast<size_t>(threads), max_memory})};
  });
}

void check_width(const Model& model, const Frames2d& features) {
  if (features.shape(1) == model.input_size()) return;
  throw nb::value_error(("features of " + std::to_string(features.shape(1)) +
                         " values a frame, expected " + std::to_string(model.input_size()))
                            .c_str());
}

nb::ndarray<nb::numpy, float> run(const Session& self, Frames2d features, size_t chunk) {
  const Model& model = *self.model;
  const size_t total = features.shape(0), width = features.shape(1);
  check_width(model, features);
  if (chunk < 1) throw nb::value_error("a chunk has 1 frame or more");
  auto* out = new std::vector<float>;
  nb::capsule owner(out, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  {
    nb::gil_scoped_release unlocked;
    Stream stream(self.model);
    const auto take = [&] {
      Frames& ready = stream.outputs();
      out->insert(out->end(), ready.data(), ready.data() + ready.count() * model.output_size());
      ready.drop(ready.count());
    };
    for (size_t frame = 0; frame < total; frame += chunk) {
      stream.push(features.data() + frame * width, std::min(chunk, total - frame));
      take();
    }
    stream.finish();
    take();
  }
  const size_t frames = out->size() / model.output_size();
  return nb::ndarray<nb::numpy, float>(out->data(), {frames, model.output_size()}, owner);
}

// The outputs since the last call.
nb::ndarray<nb::numpy, float> take(Features& self) {
  Frames& ready = self.stream.outputs();
  const size_t frames = ready.count(), size = self.model->output_size();
  auto* out = new float[frames * size];
  nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  std::copy_n(ready.data(), frames * size, out);
  ready.drop(frames);
  return nb::ndarray<nb::numpy, float>(out, {frames, size}, owner);
}

nb::ndarray<nb::numpy, float> push(FeatureUtterance& self, Frames2d features) {
  return self.use([&](Features& utterance) {
    expect_open(utterance.finished);
    check_width(*utterance.model, features);
    {
      nb::gil_scoped_release unlocked;
      utterance.stream.push(features.data(), features.shape(0));
    }
    return take(utterance);
  });
}

nb::ndarray<nb::numpy, float> finish(FeatureUtterance& self) {
  return self.use([](Features& utterance) {
    expect_open(utterance.finished);
    utterance.finished = true;
    {
      nb::gil_scoped_release unlocked;
      utterance.stream.finish();
    }
    return take(utterance);
  });
}

void feed(SpeechUtterance& self, Samples samples) {
  self.use([&](Audio& utterance) {
    expect_open(utterance.finished);
    nb::gil_scoped_release unlocked;
    utterance.stream.feed({samples.data(), samples.shape(0)});
  });
}

std::string text(SpeechUtterance& self) {
  return self.use([](Audio& utterance) { return utterance.stream.text(); });
}

std::string finish_speech(SpeechUtterance& self) {
  return self.use([](Audio& utterance) {
    if (!utterance.finished) {
      nb::gil_scoped_release unlocked;
      utterance.stream.finish();
      utterance.finished = true;
    }
    return utterance.stream.text();
  });
}

// Python owns it.
SpeechUtterance* copy(SpeechUtterance& self) {
  return self.use([](const Audio& utterance) { return new SpeechUtterance(utterance); });
}

nb::list best(SpeechUtterance& self, size_t count) {
  return self.use([&](Audio& utterance) {
    const BeamDecoder* const beam = utterance.stream.beam();
    if (!beam) throw nb::value_error("the stream decodes greedily; open it with a beam search");
    return transcripts(*beam, utterance.stream.best(count));
  });
}

template <typename Utterance>
void reset(Exclusive<Utterance>& self) {
  self.use([](Utterance& utterance) {
    utterance.stream.reset();
    utterance.finished = false;
  });
}

size_t resident_bytes(const Session& self) {
  const size_t stream =
      self.model->speech() ? SpeechStream(self.model).bytes() : Stream(self.model).bytes();
  return self.model->bytes() + stream;
}

}  // namespace

void bind_session(nb::module_& m) {
  nb::class_<Session>(m, "Session", "An open model, which any number of streams share.")
      .def("__init__", &open, nb::arg("path"), nb::arg("threads") = 1, nb::arg("max_memory") = 0)
      .def_prop_ro("ids", [](const Session& s) { return s.model->ids(); })
      .def_prop_ro("input_size", [](const Session& s) { return s.model->input_size(); })
      .def_prop_ro("output_size", [](const Session& s) { return s.model->output_size(); })
      .def_prop_ro("has_speech", [](const Session& s) { return s.model->speech() != nullptr; })
      .def_prop_ro("sample_rate",
                   [](const Session& s) { return speech_of(*s.model).features.sample_rate; })
      .def_prop_ro("tokens", [](const Session& s) { return speech_of(*s.model).tokens; })
      .def_prop_ro("blank", [](const Session& s) { return speech_of(*s.model).blank; })
      .def_prop_ro("frame_seconds",
                   [](const Session& s) {
                     speech_of(*s.model);
                     return seconds_a_frame(*s.model);
                   })
      .def_prop_ro("isa", [](const Session& s) { return s.model->kernels().isa; })
      .def_prop_ro("resident_bytes", &resident_bytes)
      .def(
          "features",
          [](const Session& self, Samples samples) {
            speech_of(*self.model);
            return features_of(self.model->features(), {samples.data(), samples.shape(0)});
          },
          nb::arg("samples"))
      .def("run", &run, nb::arg("features"), nb::arg("chunk"));
  nb::class_<FeatureUtterance>(m, "FeatureStream",
                               "One utterance: features in, outputs as they come.")
      .def("__init__", [](FeatureUtterance* self,
                          const Session& session) { new (self) FeatureUtterance(session); })
      .def("push", &push, nb::arg("features"))
      .def("finish", &finish)
      .def("reset", &reset<Features>);
  nb::class_<SpeechUtterance>(m, "SpeechStream", "One utterance: audio in, text out.")
      .def(
          "__init__",
          [](SpeechUtterance* self, const Session& session, const BeamSearch* search) {
            speech_of(*session.model);
            new (self) SpeechUtterance(session, search);
          },
          nb::arg("session"), nb::arg("search").none() = nb::none())
      .def("copy", &copy)
      .def("feed", &feed, nb::arg("samples"))
      .def("finish", &finish_speech)
      .def("reset", &reset<Audio>)
      .def("best", &best, nb::arg("count"))
      .def_prop_ro("text", &text);
}

}  // namespace tinyvox
