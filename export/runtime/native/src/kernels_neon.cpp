// Kernels for NEON on AArch64: xor, the popcount of bytes, and byte sums that are widened before they overflow.
#include <arm_neon.h>

#include <cstring>

#include "kernels.h"

namespace {

using namespace bnn;

#include "lanes_neon.inl"
#include "tails_plain.inl"
#include "epilogue.inl"
#include "packing.inl"
#include "transpose_plain.inl"

constexpr int64_t block = 32;
constexpr int vectors = block / width;
// Counts of a byte are at most 8, so 31 words fit before the sums have to be widened.
constexpr int64_t words_per_byte_sum = 31;
// Two positions take 16 of the 32 registers for their byte sums.
constexpr int tile_positions = 2;

template <int Positions>
inline void count_tile(const Strip& s, int64_t first, Ints (&count)[Positions][vectors]) {
  const uint32_t* x[Positions];
  for (int m = 0; m < Positions; ++m) {
    x[m] = s.x + s.positions[first + m].x;
    for (int v = 0; v < vectors; ++v) count[m][v] = zero_ints();
  }
  const uint32_t* panel = static_cast<const uint32_t*>(s.panel);
  for (int64_t r = 0; r < s.run_count; ++r) {
    const int64_t end = s.runs[r] + s.run_words;
    for (int64_t k = s.runs[r]; k < end;) {
      const int64_t stop = k + words_per_byte_sum < end ? k + words_per_byte_sum : end;
      uint8x16_t bytes[Positions][vectors];
#pragma GCC unroll 16
      for (int i = 0; i < Positions * vectors; ++i) bytes[i / vectors][i % vectors] = vdupq_n_u8(0);
      for (; k < stop; ++k, panel += block) {
        Ints a[Positions];
#pragma GCC unroll 2
        for (int m = 0; m < Positions; ++m) a[m] = vdupq_n_s32(static_cast<int32_t>(x[m][k]));
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          const Ints w = load_words(panel + v * width);
#pragma GCC unroll 2
          for (int m = 0; m < Positions; ++m) bytes[m][v] = vaddq_u8(bytes[m][v], byte_mismatches(a[m], w));
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < Positions * vectors; ++i) {
        Ints& sum = count[i / vectors][i % vectors];
        const uint16x8_t pairs = vpaddlq_u8(bytes[i / vectors][i % vectors]);
        sum = vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sum), pairs));
      }
    }
  }
}

template <bnn_output Output, int Positions>
__attribute__((noinline)) void tiles(const Strip& strip, int64_t first, int64_t end) {
  const Strip s = strip;  // by value, so that no store of the epilogue can change it
  for (; first < end; first += Positions) {
    Ints count[Positions][vectors];
    count_tile<Positions>(s, first, count);
    finish_counts<Output>(s, first, count);
  }
}

template <bnn_output Output>
void strip_of(const Strip& s) {
  const int64_t whole = s.count / tile_positions * tile_positions;
  tiles<Output, tile_positions>(s, 0, whole);
  tiles<Output, 1>(s, whole, s.count);
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

extern const Kernels neon_kernels;
const Kernels neon_kernels = {"neon", lanes,      nullptr,   nullptr,
                              strip,  lane_strip, pack_rows, pack_columns, transpose};

}  // namespace bnn
