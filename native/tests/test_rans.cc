// The entropy coder: codes come back as they went in; bytes that are cut, longer or changed are
// refused, or give codes that exist.
#include "check.h"
#include "rans.h"
#include "trellis.h"

namespace {

using namespace tinyvox;
using namespace tinyvox::test;

fuzz::Random random(1);

struct Case {
  std::string name;
  std::vector<uint8_t> group;
  CodeShape shape;
  std::vector<uint8_t> codes;
};

// Codes of which small ones are more frequent; with a trellis, those that it has.
std::vector<uint8_t> make_codes(const CodeShape& shape) {
  std::vector<uint8_t> codes(shape.rows * shape.columns);
  std::vector<uint32_t> states(shape.columns, 0);
  const Trellis trellis(shape.entries, shape.trellis.value_or(0));
  for (size_t i = 0; i < codes.size(); ++i) {
    uint32_t& state = states[i % shape.columns];
    do codes[i] = static_cast<uint8_t>(random.below(random.between(1, shape.entries)));
    while (shape.trellis && trellis.next(state, codes[i]) == Trellis::none);
    if (shape.trellis) state = trellis.next(state, codes[i]);
  }
  return codes;
}

Case make_case(size_t rows, size_t columns, uint32_t entries, uint32_t groups, bool trellis) {
  Case made{std::to_string(rows) + " x " + std::to_string(columns) + ", " +
                std::to_string(entries) + " entries, " + std::to_string(groups) + " groups" +
                (trellis ? ", trellis" : ""),
            {},
            {rows, columns, entries, {}},
            {}};
  for (size_t row = 0; groups > 1 && row < rows; ++row)
    made.group.push_back(static_cast<uint8_t>(row % groups));
  made.shape.groups = groups;
  if (trellis) made.shape.trellis = entries / 2;
  made.codes = make_codes(made.shape);
  return made;
}

std::vector<uint8_t> decode(std::span<const uint8_t> bytes, const Case& now) {
  CodeShape shape = now.shape;
  shape.group = now.group;
  std::vector<uint8_t> codes(now.codes.size());
  rans_decode(bytes, shape, codes);
  return codes;
}

Bytes encode(const Case& now) {
  CodeShape shape = now.shape;
  shape.group = now.group;
  return rans_encode(now.codes, shape);
}

void check_damage(const Case& now, const Bytes& coded) {
  for (size_t length = 0; length < coded.size(); ++length)
    expect_refused([&] { decode(std::span(coded).first(length), now); },
                   now.name + ", cut to " + std::to_string(length));
  Bytes longer = coded;
  longer.insert(longer.end(), 2, 0);
  expect_refused([&] { decode(longer, now); }, now.name + ", two bytes more", "end where");
  for (size_t i = 0; i < coded.size(); ++i) {
    Bytes changed = coded;
    changed[i] ^= static_cast<uint8_t>(1 + random.below(255));
    try {
      for (uint8_t code : decode(changed, now))
        expect(code < now.shape.entries, now.name + ": a code that does not exist");
    } catch (const FormatError&) {
      ++checked;
    }
  }
}

void check_case(const Case& now) {
  const Bytes coded = encode(now);
  expect(decode(coded, now) == now.codes, now.name + ": other codes come back");
  if (coded.size() < 1000) check_damage(now, coded);
}

}  // namespace

int main() {
  for (uint32_t entries : {2, 3, 16, 17, 255, 256})
    for (size_t columns : {1, 7, 8, 9, 64})
      for (uint32_t groups : {1, 3})
        for (bool trellis : {false, true})
          check_case(make_case(groups == 3 ? 11 : 1, columns, entries, groups, trellis));
  Case constant = make_case(64, 64, 2, 1, false);
  std::ranges::fill(constant.codes, uint8_t{1});
  check_case(constant);
  expect(encode(constant).size() < 40, "a constant takes 36 bytes: a model and eight states");
  Case wrong = make_case(1, 8, 5, 1, true);
  wrong.codes[0] = 3;  // level 1, which the even quantizer does not have
  expect_refused([&] { encode(wrong); }, "a code off the trellis", "does not follow the trellis");
  return finish();
}
