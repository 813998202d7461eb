#include <immintrin.h>

#include "bound.h"

#define PIN(value) asm volatile("" : "+v"(value))

// As in src/bound.cpp: operands from the first-level cache, as the kernels have them.
int64_t bound_avx512(int64_t rounds) {
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
  return rounds / words * words * positions * 2 * 512;
}
