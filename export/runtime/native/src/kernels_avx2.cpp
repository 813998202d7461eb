// Kernels for AVX2, which has no popcount: a look-up in a table is the product. Weights are spread out to one nibble
// per byte, 32 outputs beside each other; for every nibble of an activation word there is a table of how many bits each
// of the 16 weight nibbles differs in. A look-up and an addition make 128 multiply-adds.
#include <immintrin.h>

#include <cstring>

#include "kernels.h"

namespace {

using namespace bnn;

#include "lanes_avx2.inl"
#include "tails_plain.inl"
#include "epilogue.inl"
#include "packing.inl"
#include "transpose_avx.inl"

#define PIN(value) asm("" : "+x"(value))

constexpr int nibbles = 8;  // of a word
// A nibble differs in at most 4 bits, so a byte holds the sums of 63 nibbles; whole words: 7.
constexpr int64_t words_per_byte_sum = 7;
constexpr int tile_positions = 4;

struct Tables {
  alignas(32) uint8_t mismatches[16][32];
  constexpr Tables() : mismatches() {
    for (int a = 0; a < 16; ++a) {
      for (int w = 0; w < 32; ++w) {
        const int bits = a ^ (w & 15);
        mismatches[a][w] = static_cast<uint8_t>((bits & 1) + (bits >> 1 & 1) + (bits >> 2 & 1) + (bits >> 3 & 1));
      }
    }
  }
};
constexpr Tables tables;

int64_t panel_words(int64_t words, int64_t lanes) { return words * lanes * nibbles / 4; }

// [word][lane] -> [word][nibble][lane], one byte each.
void make_panel(const uint32_t* plain, int64_t words, int64_t lanes, uint32_t* panel) {
  uint8_t* to = reinterpret_cast<uint8_t*>(panel);
  for (int64_t k = 0; k < words; ++k, plain += lanes) {
    for (int nibble = 0; nibble < nibbles; ++nibble) {
      for (int64_t lane = 0; lane < lanes; ++lane) *to++ = plain[lane] >> (4 * nibble) & 15;
    }
  }
}

// Adds 32 byte sums to 32 counts.
inline void widen(Ints bytes, int32_t* count) {
  for (int v = 0; v < 4; ++v) {
    const __m128i half = v < 2 ? _mm256_castsi256_si128(bytes) : _mm256_extracti128_si256(bytes, 1);
    const Ints eight = _mm256_cvtepu8_epi32(v % 2 == 0 ? half : _mm_srli_si128(half, 8));
    store_ints(count + v * 8, _mm256_add_epi32(load_ints(count + v * 8), eight));
  }
}

// Halves: 1 or 2 times 32 lanes.
template <int Positions, int Halves>
inline void count_tile(const Strip& s, int64_t first, int32_t (&count)[Positions][Halves * 32]) {
  const uint32_t* x[Positions];
#pragma GCC unroll 4
  for (int m = 0; m < Positions; ++m) x[m] = s.x + s.positions[first + m].x;
  std::memset(count, 0, sizeof count);
  const __m256i* panel = static_cast<const __m256i*>(s.panel);
  for (int64_t r = 0; r < s.run_count; ++r) {
    const int64_t end = s.runs[r] + s.run_words;
    for (int64_t k = s.runs[r]; k < end;) {
      const int64_t stop = k + words_per_byte_sum < end ? k + words_per_byte_sum : end;
      Ints bytes[Positions][Halves];
#pragma GCC unroll 4
      for (int m = 0; m < Positions; ++m) {
        for (int h = 0; h < Halves; ++h) bytes[m][h] = zero_ints();
      }
      for (; k < stop; ++k) {
        uint64_t word[Positions];
        // Times 32: the distance between two tables.
#pragma GCC unroll 4
        for (int m = 0; m < Positions; ++m) word[m] = static_cast<uint64_t>(x[m][k]) << 5;
#pragma GCC unroll 8
        for (int nibble = 0; nibble < nibbles; ++nibble, panel += Halves) {
          Ints w[Halves];
          for (int h = 0; h < Halves; ++h) w[h] = _mm256_load_si256(panel + h);
#pragma GCC unroll 4
          for (int m = 0; m < Positions; ++m) {
            const size_t at = word[m] >> (4 * nibble) & 0x1e0;
            const Ints table = _mm256_load_si256(reinterpret_cast<const __m256i*>(tables.mismatches[0] + at));
            for (int h = 0; h < Halves; ++h) {
              bytes[m][h] = _mm256_add_epi8(bytes[m][h], _mm256_shuffle_epi8(table, w[h]));
              PIN(bytes[m][h]);
            }
          }
        }
      }
#pragma GCC unroll 4
      for (int m = 0; m < Positions; ++m) {
        for (int h = 0; h < Halves; ++h) widen(bytes[m][h], count[m] + h * 32);
      }
    }
  }
}

template <bnn_output Output, int Positions, int Halves>
__attribute__((noinline)) void tile(const Strip& strip, int64_t first) {
  const Strip s = strip;  // by value, so that no store of the epilogue can change it
  alignas(32) int32_t count[Positions][Halves * 32];
  count_tile<Positions, Halves>(s, first, count);
  for (int m = 0; m < Positions; ++m) {
    Ints vectors[1][Halves * 4];
    for (int v = 0; v < Halves * 4; ++v) vectors[0][v] = load_ints(count[m] + v * 8);
    finish_counts<Output>(s, first + m, vectors);
  }
}

template <bnn_output Output, int Halves>
void strip_of(const Strip& s) {
  for (int64_t first = 0; first < s.count; first += tile_positions) {
    switch (s.count - first) {
      case 1: tile<Output, 1, Halves>(s, first); break;
      case 2: tile<Output, 2, Halves>(s, first); break;
      case 3: tile<Output, 3, Halves>(s, first); break;
      default: tile<Output, tile_positions, Halves>(s, first); break;
    }
  }
}

template <int Halves>
void strip_with(const Strip& s) {
  switch (s.output) {
    case BNN_BITS: return strip_of<BNN_BITS, Halves>(s);
    case BNN_INT32: return strip_of<BNN_INT32, Halves>(s);
    case BNN_FLOAT32: return strip_of<BNN_FLOAT32, Halves>(s);
  }
}

void strip(const Strip& s) { s.lanes == 64 ? strip_with<2>(s) : strip_with<1>(s); }

// 64 lanes share the look-ups of the tables, unless half of them would be empty.
int64_t lanes(int64_t outputs) { return outputs % 64 != 0 && outputs <= 32 + 64 ? 32 : 64; }

}  // namespace

namespace bnn {

extern const Kernels avx2_kernels;
const Kernels avx2_kernels = {"avx2", lanes,      panel_words, make_panel,
                              strip,  lane_strip, pack_rows,   pack_columns, transpose};

}  // namespace bnn
