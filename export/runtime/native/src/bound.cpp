// How many multiply-adds per second the instructions of the kernels reach when nothing else happens: what the times of
// layers are compared with.
#include <chrono>
#include <cstdint>
#include <string>

#include "failure.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__x86_64__)

// The registers stay where they are: the compiler may neither drop nor merge the rounds.
#define PIN(value) asm volatile("" : "+v"(value))

// xor, popcount, add on 512 bits.
__attribute__((target("avx512f,avx512vpopcntdq"))) double work_avx512(int64_t rounds) {
  constexpr int chains = 16;
  __m512i count[chains], a = _mm512_set1_epi32(5), w = _mm512_set1_epi32(9);
  for (auto& c : count) c = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int m = 0; m < chains; ++m) {
      count[m] = _mm512_add_epi32(count[m], _mm512_popcnt_epi32(_mm512_xor_si512(a, w)));
      PIN(count[m]);
      PIN(a);
    }
  }
  return static_cast<double>(rounds) * chains * 512;
}

// A shuffle that looks up the product of a nibble, and an add: 32 nibbles of 4 codes.
__attribute__((target("avx2"))) double work_avx2(int64_t rounds) {
  constexpr int chains = 8;
  __m256i count[chains], table = _mm256_set1_epi8(3), w = _mm256_set1_epi8(9);
  for (auto& c : count) c = _mm256_setzero_si256();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
    for (int m = 0; m < chains; ++m) {
      count[m] = _mm256_add_epi8(count[m], _mm256_shuffle_epi8(table, w));
      asm volatile("" : "+x"(count[m]));
      asm volatile("" : "+x"(table));
    }
  }
  return static_cast<double>(rounds) * chains * 128;
}

#endif

using Work = double (*)(int64_t rounds);

Work work_of(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return work_avx512;
  if (isa == "avx2") return work_avx2;
#endif
  (void)isa;
  return nullptr;
}

}  // namespace

extern "C" bnn_status bnn_bound(double* macs_per_second) {
  return bnn::guarded("bnn_bound", [&] {
    bnn::require(macs_per_second != nullptr, [] { return std::string("macs_per_second is null"); });
    const Work work = work_of(bnn_isa());
    if (work == nullptr) {
      throw bnn::Failure{BNN_UNSUPPORTED, "there is no bound for the instruction set '" + std::string(bnn_isa()) + "'"};
    }
    const auto start = std::chrono::steady_clock::now();
    const double done = work(100000);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    *macs_per_second = done / seconds.count();
  });
}
