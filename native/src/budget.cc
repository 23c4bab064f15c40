#include "budget.h"

#include "bytes.h"

namespace tinyvox {

std::string grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t at = digits.size(); at > 3;) digits.insert(at -= 3, 1, ' ');
  return digits;
}

void Budget::spend(uint64_t bytes) {
  spent_ += bytes;
  if (spent_ > memory_)
    throw LimitError("takes at least " + grouped(spent_) + " bytes of memory, the limit is " +
                     grouped(memory_) + "; " + advice_);
}

}  // namespace tinyvox
