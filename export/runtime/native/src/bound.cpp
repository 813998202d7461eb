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

// xor, popcount, subtract on 512 bits, for 8 words that are broadcast from the first-level cache and 2 vectors of
// weights: with operands in registers alone the processor spreads them over its ports less evenly, and is slower.
__attribute__((target("avx512f,avx512vpopcntdq"))) double work_avx512(int64_t rounds) {
  constexpr int positions = 8, words = 64;
  static const uint32_t x[positions][words] = {};
  alignas(64) static const uint32_t panel[words * 32] = {};
  __m512i sum[positions][2];
#pragma GCC unroll 8
  for (int m = 0; m < positions; ++m) sum[m][0] = sum[m][1] = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds / words; ++i) {
    const uint32_t* w = panel;
    asm volatile("" : "+r"(w));
    for (int k = 0; k < words; ++k, w += 32) {
      const __m512i first = _mm512_load_si512(w), second = _mm512_load_si512(w + 16);
#pragma GCC unroll 8
      for (int m = 0; m < positions; ++m) {
        const __m512i a = _mm512_set1_epi32(static_cast<int>(x[m][k]));
        sum[m][0] = _mm512_sub_epi32(sum[m][0], _mm512_popcnt_epi32(_mm512_xor_si512(a, first)));
        sum[m][1] = _mm512_sub_epi32(sum[m][1], _mm512_popcnt_epi32(_mm512_xor_si512(a, second)));
        // Not volatile: the compiler may order the positions, as in the kernels.
        asm("" : "+v"(sum[m][0]));
        asm("" : "+v"(sum[m][1]));
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < positions; ++m) {
    PIN(sum[m][0]);
    PIN(sum[m][1]);
  }
  return static_cast<double>(rounds / words * words) * positions * 2 * 512;
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
