#include <immintrin.h>

#include "bound.h"

#define PIN(value) asm volatile("" : "+v"(value))

int64_t bound_avx512(int64_t rounds) {
  constexpr int sums = 24;
  __m512i count[sums], a = _mm512_set1_epi32(5), w = _mm512_set1_epi32(9);
  for (auto& c : count) c = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int m = 0; m < sums; ++m) {
      __m512i x = _mm512_xor_si512(a, w);
      PIN(x);
      x = _mm512_popcnt_epi32(x);
      PIN(x);
      count[m] = _mm512_add_epi32(count[m], x);
      PIN(count[m]);
    }
  }
  return rounds * sums * 512;
}
