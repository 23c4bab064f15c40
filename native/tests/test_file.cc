// The parser: it reads the seeds, written again too; it refuses each of them cut at any byte, or
// with any bit changed, and names what is wrong with a container that does not keep to its rules.
#include <set>

#include "../fuzz/mutate.h"
#include "check.h"
#include "records.h"

namespace {

using namespace tinyvox;
using namespace tinyvox::test;
using fuzz::Section;

void check_damage(const Seed& seed) {
  for (size_t length = 0; length < seed.bytes.size(); ++length)
    expect_refused([&] { parse(std::span(seed.bytes).first(length)); },
                   seed.name + ", cut to " + std::to_string(length));
  Bytes changed = seed.bytes;
  for (size_t bit = 0; bit < 8 * changed.size(); ++bit) {
    changed[bit / 8] ^= 1u << bit % 8;
    expect_refused([&] { parse(changed); }, seed.name + ", bit " + std::to_string(bit));
    changed[bit / 8] ^= 1u << bit % 8;
  }
  changed.push_back(0);
  expect_refused([&] { parse(changed); }, seed.name + ", a byte more", "too long");
}

void refuse(const std::string& what, std::vector<Section> sections, const std::string& message,
            uint32_t version = newest_version) {
  expect_refused([&] { parse(fuzz::seal(sections, version)); }, what, message);
}

void check_container(const Seed& seed) {
  const std::vector<Section> sections = fuzz::sections_of(seed.bytes);
  const Section &model = sections[0], &speech = sections[1], &meta = sections[2];
  expect(fuzz::seal(sections, fuzz::version_of(seed.bytes)) == seed.bytes, "the same bytes again");
  refuse("version 1", sections, "version 1", 1);
  refuse("version 8", sections, "version 8", newest_version + 1);
  refuse("no section", {}, "0 sections");
  refuse("four sections", {model, speech, meta, meta}, "4 sections");
  refuse("no model", {speech}, "first section is not MODL");
  refuse("another order", {model, meta, speech}, "in this order");
  refuse("two models", {model, model}, "in this order");
  refuse("an unknown section", {model, {"JUNK", {}}}, "in this order");
  refuse("an empty model", {{"MODL", {}}}, "needs 1 more bytes");
  refuse("metadata that is no text", {model, {"META", {0xFF}}}, "not UTF-8");
  Section longer = model;
  longer.bytes.push_back(0);
  refuse("a byte after the layers", {longer}, "1 bytes too many");
}

// What the fuzzer writes is a file of the same parts, of any version that can hold it.
void check_written_again(const Seed& seed, std::set<uint32_t>& versions) {
  const File file = parse(seed.bytes);
  fuzz::Random random(1);
  for (uint32_t version = fuzz::version_for(file); version <= newest_version; ++version) {
    const Bytes bytes = fuzz::write(file, version, random);
    expect(fuzz::version_of(bytes) == version, seed.name + ": version");
    const File again = parse(bytes);
    expect(again.nodes.size() == file.nodes.size(), seed.name + ": layers");
    for (size_t i = 0; i < file.nodes.size(); ++i)
      expect(again.nodes[i].signal.size() == file.nodes[i].signal.size() &&
                 again.nodes[i].kind == file.nodes[i].kind &&
                 again.nodes[i].tied == file.nodes[i].tied,
             seed.name + ": layer " + std::to_string(i));
    versions.insert(version);
  }
}

}  // namespace

int main() {
  std::set<uint32_t> versions;
  for (const Seed& seed : seeds()) {
    parse(seed.bytes);
    check_damage(seed);
    check_written_again(seed, versions);
    if (seed.name == "example") check_container(seed);
  }
  expect(versions == std::set<uint32_t>{2, 3, 4, 5, 6, 7}, "every version was written");
  return finish();
}
