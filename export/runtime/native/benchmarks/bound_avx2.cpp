#include <immintrin.h>

#include "bound.h"

#define PIN(value) asm volatile("" : "+x"(value))

int64_t bound_avx2(int64_t rounds) {
  __m256i count[8], table = _mm256_set1_epi8(3), w = _mm256_set1_epi8(9);
  for (auto& c : count) c = _mm256_setzero_si256();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
    for (int m = 0; m < 8; ++m) {
      count[m] = _mm256_add_epi8(count[m], _mm256_shuffle_epi8(table, w));
      PIN(count[m]);
      PIN(table);
    }
  }
  return rounds * 8 * 128;
}
