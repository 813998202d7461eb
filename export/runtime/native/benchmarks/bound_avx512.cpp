#include <immintrin.h>

#include "bound.h"

#define PIN(value) asm volatile("" : "+v"(value))

int64_t bound_avx512(int64_t rounds) {
  __m512i count[16], a = _mm512_set1_epi32(5), w = _mm512_set1_epi32(9);
  for (auto& c : count) c = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int m = 0; m < 16; ++m) {
      count[m] = _mm512_add_epi32(count[m], _mm512_popcnt_epi32(_mm512_xor_si512(a, w)));
      PIN(count[m]);
      PIN(a);
    }
  }
  return rounds * 16 * 512;
}
