#include "bindings.h"

NB_MODULE(_native, m) {
  m.doc() = "The native core of tinyvox: features, files, and the streaming runtime.";
  tinyvox::bind_decode(m);
  tinyvox::bind_features(m);
  tinyvox::bind_file(m);
  tinyvox::bind_kernels(m);
  tinyvox::bind_ngram(m);
  tinyvox::bind_rdo(m);
  tinyvox::bind_session(m);
}
