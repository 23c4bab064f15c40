// Chooses the kernels. Only this file asks what the processor can do.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace tinyvox {
namespace {

struct Isa {
  const Kernels* kernels;
  bool (*runs_here)();
};

#if defined(__aarch64__)
bool has_dot_products() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return true;  // every Apple processor
#endif
}
#endif

#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512vbmi") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}

// Linux gives the registers of AMX to a process that asks for them; nobody else is asked here. It
// refuses where it does not know them, or where a stack for signals is too small for them.
bool has_amx() {
#if defined(__linux__)
  unsigned a, b, c, d;
  if (!has_avx512() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned tiles = 1u << 24, of_int8 = 1u << 25;
  if ((d & tiles) == 0 || (d & of_int8) == 0) return false;
  constexpr long ask_for_state = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return syscall(SYS_arch_prctl, ask_for_state, tile_data) == 0;
#else
  return false;
#endif
}

// Not every compiler knows this one by name. It needs what AVX2 needs, of the system also.
bool has_avx_vnni() {
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}
#endif

// The best first.
constexpr Isa isas[] = {
#if defined(__x86_64__)
    {&kernels_amx, has_amx},
    {&kernels_avx512, has_avx512},
    {&kernels_avxvnni, has_avx_vnni},
    {&kernels_avx2,
     [] { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; }},
    {&kernels_ssse3, [] { return __builtin_cpu_supports("ssse3") != 0; }},
#elif defined(__aarch64__)
    {&kernels_dotprod, has_dot_products},
    {&kernels_neon, [] { return true; }},
#elif defined(__wasm_simd128__)
    {&kernels_simd128, [] { return true; }},
#endif
    {&kernels_scalar, [] { return true; }},
};

const Kernels& choose() {
  const char* wanted = std::getenv("TINYVOX_ISA");
  if (wanted != nullptr && *wanted != '\0') {
    if (const Kernels* found = kernels_named(wanted)) return *found;
    std::string names;
    for (const Isa& isa : isas)
      if (isa.runs_here()) names += std::string(names.empty() ? "" : ", ") + isa.kernels->isa;
    throw std::runtime_error("TINYVOX_ISA is '" + std::string(wanted) +
                             "', expected one that runs on this processor: " + names);
  }
  for (const Isa& isa : isas)
    if (isa.runs_here()) return *isa.kernels;
  return kernels_scalar;
}

}  // namespace

const Kernels& kernels() { return choose(); }

const Kernels* kernels_named(const char* name) {
  for (const Isa& isa : isas)
    if (std::strcmp(isa.kernels->isa, name) == 0 && isa.runs_here()) return isa.kernels;
  return nullptr;
}

size_t kernel_names(const char** names, size_t most) {
  size_t count = 0;
  for (const Isa& isa : isas)
    if (isa.runs_here() && count < most) names[count++] = isa.kernels->isa;
  return count;
}

}  // namespace tinyvox
