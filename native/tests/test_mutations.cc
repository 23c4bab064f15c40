// The mutations of the fuzzer: most results are files, and together they have layers, tensors,
// codebooks and versions of every kind.
#include <set>

#include "../fuzz/mutate.h"
#include "check.h"
#include "records.h"

namespace {

using namespace tinyvox;
using namespace tinyvox::test;

constexpr int count = 5000;

struct Kinds {
  std::set<int> layers, tensors, codebooks, versions;
  int tied = 0;
};

void collect(const Tensor& tensor, Kinds& kinds) {
  kinds.tensors.insert(static_cast<int>(tensor.kind));
  if (tensor.kind == TensorKind::coded) kinds.codebooks.insert(static_cast<int>(tensor.codebook));
  if (!tensor.left) return;
  collect(*tensor.left, kinds);
  collect(*tensor.right, kinds);
}

bool try_to_read(const Bytes& bytes, Kinds& kinds) {
  try {
    const File file = parse(bytes);
    kinds.versions.insert(static_cast<int>(fuzz::version_of(bytes)));
    for (const Node& node : file.nodes) {
      kinds.layers.insert(static_cast<int>(node.kind));
      kinds.tied += node.tied.has_value();
      for (const Tensor& tensor : node.tensors) collect(tensor, kinds);
    }
    return true;
  } catch (const FormatError&) {
    return false;
  }
}

}  // namespace

int main() {
  const std::vector<Seed> corpus = seeds();
  fuzz::Random random(1);
  Kinds kinds;
  int read = 0;
  for (int i = 0; i < count; ++i) {
    const Bytes bytes =
        fuzz::mutate(random.pick(corpus).bytes, random.pick(corpus).bytes, 4096, random);
    expect(bytes.size() <= 4096, "a mutation is too long");
    read += try_to_read(bytes, kinds);
  }
  std::printf("%d of %d mutations are files\n", read, count);
  expect(read > count * 6 / 10, "most mutations are files");
  expect(read < count, "some mutations are none");
  expect(kinds.layers.size() == layer_kinds, "every kind of layer");
  expect(kinds.tied > 0, "a layer with the table of an embedding");
  expect(kinds.tensors.size() == 6, "every kind of tensor");
  expect(kinds.codebooks.size() == 4, "every kind of codebook");
  expect(kinds.versions.size() == newest_version - 1, "every version");
  return finish();
}
