// Which instruction sets there are, and which one is in use.
#include <atomic>
#include <cstring>
#include <string>

#include "failure.h"
#include "kernels.h"

#if defined(BNN_NEON)
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#endif

namespace bnn {

extern const Kernels portable_kernels;
#if defined(BNN_X86)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif
#if defined(BNN_NEON)
extern const Kernels neon_kernels;
#endif

namespace {

struct Candidate {
  const Kernels* kernels;
  bool (*present)();
};

bool always() { return true; }

#if defined(BNN_X86)
bool has_avx2() { return __builtin_cpu_supports("avx2"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

#if defined(BNN_NEON)
bool has_neon() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
#else
  return true;  // every other system on AArch64 asks for it
#endif
}
#endif

// Best first.
const Candidate candidates[] = {
#if defined(BNN_X86)
    {&avx512_kernels, has_avx512},
    {&avx2_kernels, has_avx2},
#endif
#if defined(BNN_NEON)
    {&neon_kernels, has_neon},
#endif
    {&portable_kernels, always},
};

const Kernels* best() {
  for (const Candidate& candidate : candidates) {
    if (candidate.present()) return candidate.kernels;
  }
  return &portable_kernels;
}

// Null until something is chosen.
std::atomic<const Kernels*> chosen{nullptr};

const Kernels* by_name(const char* name) {
  for (const Candidate& candidate : candidates) {
    if (std::strcmp(candidate.kernels->name, name) == 0 && candidate.present()) return candidate.kernels;
  }
  return nullptr;
}

const std::string& available_names() {
  static const std::string names = [] {
    std::string text;
    for (const Candidate& candidate : candidates) {
      if (!candidate.present()) continue;
      if (!text.empty()) text += ' ';
      text += candidate.kernels->name;
    }
    return text;
  }();
  return names;
}

}  // namespace

const Kernels& current_kernels() {
  static const Kernels* const automatic = best();
  const Kernels* kernels = chosen.load(std::memory_order_relaxed);
  return kernels != nullptr ? *kernels : *automatic;
}

}  // namespace bnn

extern "C" {

const char* bnn_available(void) {
  try {
    return bnn::available_names().c_str();
  } catch (...) {
    return "portable";
  }
}

const char* bnn_isa(void) { return bnn::current_kernels().name; }

bnn_status bnn_set_isa(const char* name) {
  return bnn::guarded("bnn_set_isa", [&] {
    bnn::require(name != nullptr, [] { return std::string("the name is null"); });
    if (std::strcmp(name, "auto") == 0) return bnn::chosen.store(nullptr);
    const bnn::Kernels* kernels = bnn::by_name(name);
    if (kernels == nullptr) {
      throw bnn::Failure{BNN_UNSUPPORTED, "'" + std::string(name).substr(0, 64) + "' is not available; there are: auto " +
                                              bnn::available_names()};
    }
    bnn::chosen.store(kernels);
  });
}
}
