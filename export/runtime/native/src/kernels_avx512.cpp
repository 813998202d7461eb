// Kernels for AVX-512 with VPOPCNTDQ. A lane is an output channel: the word of a position is broadcast against the
// words of 32 outputs, so nothing is ever summed across lanes, and the counts come out ready for the epilogue.
#include <immintrin.h>

#include <cstring>

#include "kernels.h"

namespace {

using namespace bnn;

#include "lanes_avx512.inl"
#include "epilogue.inl"
#include "packing.inl"
#include "transpose_avx.inl"

constexpr int64_t block = 32;

// Keeps a value in its register: without it the compiler moves instructions across the steps of an unrolled tile and
// spills (15 % slower).
#define PIN(value) asm("" : "+v"(value))

template <int Positions>
inline void sum_tile(const Strip& s, int64_t first, Ints (&sum)[Positions][2]) {
  const uint32_t* x[Positions];
#pragma GCC unroll 8
  for (int m = 0; m < Positions; ++m) {
    const Position& p = s.positions[first + m];
    x[m] = s.x + p.x;
    sum[m][0] = load_ints(s.start + p.border);
    sum[m][1] = load_ints(s.start + p.border + width);
  }
  const uint32_t* panel = static_cast<const uint32_t*>(s.panel);
  for (int64_t r = 0; r < s.run_count; ++r) {
    const int64_t end = s.runs[r] + s.run_words;
    for (int64_t k = s.runs[r]; k < end; ++k, panel += block) {
      const Ints w0 = _mm512_load_si512(panel), w1 = _mm512_load_si512(panel + 16);
#pragma GCC unroll 8
      for (int m = 0; m < Positions; ++m) {
        const Ints a = _mm512_set1_epi32(static_cast<int>(x[m][k]));
        sum[m][0] = subtract(sum[m][0], _mm512_popcnt_epi32(_mm512_xor_si512(a, w0)));
        sum[m][1] = subtract(sum[m][1], _mm512_popcnt_epi32(_mm512_xor_si512(a, w1)));
        PIN(sum[m][0]);
        PIN(sum[m][1]);
      }
    }
  }
}

template <bnn_output Output, int Positions>
__attribute__((noinline)) void tiles(const Strip& strip, int64_t first, int64_t end) {
  const Strip s = strip;  // by value, so that no store of the epilogue can change it
  for (; first < end; first += Positions) {
    Ints sum[Positions][2];
    sum_tile(s, first, sum);
    finish<Output>(s, first, sum);
  }
}

template <bnn_output Output>
void tiles_of(const Strip& s, int64_t size, int64_t first, int64_t end) {
  switch (size) {
    case 1: return tiles<Output, 1>(s, first, end);
    case 2: return tiles<Output, 2>(s, first, end);
    case 3: return tiles<Output, 3>(s, first, end);
    case 4: return tiles<Output, 4>(s, first, end);
    case 5: return tiles<Output, 5>(s, first, end);
    case 6: return tiles<Output, 6>(s, first, end);
    case 7: return tiles<Output, 7>(s, first, end);
    case 8: return tiles<Output, 8>(s, first, end);
  }
}

template <bnn_output Output>
void strip_of(const Strip& s) {
  // Tiles of about equal size rather than whole ones and a small rest.
  const int64_t number = (s.count + 7) / 8, size = (s.count + number - 1) / number;
  const int64_t whole = s.count / size * size;
  tiles_of<Output>(s, size, 0, whole);
  tiles_of<Output>(s, s.count - whole, whole, s.count);
}

void strip(const Strip& s) {
  switch (s.output) {
    case BNN_BITS: return strip_of<BNN_BITS>(s);
    case BNN_INT32: return strip_of<BNN_INT32>(s);
    case BNN_FLOAT32: return strip_of<BNN_FLOAT32>(s);
  }
}

int64_t lanes(int64_t) { return block; }

}  // namespace

namespace bnn {

extern const Kernels avx512_kernels;
const Kernels avx512_kernels = {"avx512", lanes,      nullptr,   nullptr,
                                strip,    lane_strip, pack_rows, pack_columns, transpose};

}  // namespace bnn
