// Kernels in plain C++, for any machine. They are also what the others are tested against.
#include <cstring>

#include "kernels.h"

namespace {

using namespace bnn;

constexpr int width = 8;

struct Ints {
  int32_t lane[width];
};
struct Floats {
  float lane[width];
};

template <typename Result, typename Function>
inline Result each(Function function) {
  Result result;
  for (int i = 0; i < width; ++i) result.lane[i] = function(i);
  return result;
}

inline Ints zero_ints() { return Ints{}; }
inline Ints load_ints(const int32_t* from) {
  return each<Ints>([&](int i) { return from[i]; });
}
inline Ints load_words(const uint32_t* from) {
  return each<Ints>([&](int i) { return static_cast<int32_t>(from[i]); });
}
inline void store_ints(int32_t* to, Ints a) { std::memcpy(to, a.lane, sizeof a.lane); }
inline Ints add_ints(Ints a, Ints b) {
  return each<Ints>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Ints subtract(Ints a, Ints b) {
  return each<Ints>([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline Ints shift_left(Ints a, int by) {
  return each<Ints>([&](int i) { return a.lane[i] * (1 << by); });
}
inline Floats to_floats(Ints a) {
  return each<Floats>([&](int i) { return static_cast<float>(a.lane[i]); });
}
inline Floats load_floats(const float* from) {
  return each<Floats>([&](int i) { return from[i]; });
}
inline void store_floats(float* to, Floats a) { std::memcpy(to, a.lane, sizeof a.lane); }
inline Floats add(Floats a, Floats b) {
  return each<Floats>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Floats multiply(Floats a, Floats b) {
  return each<Floats>([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline Floats scale_negative(Floats a, Floats slope) {
  return each<Floats>([&](int i) { return a.lane[i] < 0.0f ? a.lane[i] * slope.lane[i] : a.lane[i]; });
}
inline uint32_t not_above(Ints a, Ints b) {
  uint32_t bits = 0;
  for (int i = 0; i < width; ++i) bits |= static_cast<uint32_t>(a.lane[i] <= b.lane[i]) << i;
  return bits;
}
inline uint32_t not_below(Floats a, Floats b) {
  uint32_t bits = 0;
  for (int i = 0; i < width; ++i) bits |= static_cast<uint32_t>(a.lane[i] >= b.lane[i]) << i;
  return bits;
}
// Bit `at` of every lane becomes a >= threshold.
inline Ints set_bit(Ints packed, Floats a, float threshold, int at) {
  return each<Ints>([&](int i) {
    const uint32_t bit = static_cast<uint32_t>(a.lane[i] >= threshold) << at;
    return static_cast<int32_t>(static_cast<uint32_t>(packed.lane[i]) | bit);
  });
}

// The number of ones of every byte.
inline uint32_t byte_counts(uint32_t x) {
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  return (x + (x >> 4)) & 0x0f0f0f0fu;
}

// The sum of the bytes.
inline int32_t byte_sum(uint32_t x) {
  x = (x & 0x00ff00ffu) + ((x >> 8) & 0x00ff00ffu);
  return static_cast<int32_t>((x & 0xffffu) + (x >> 16));
}

inline Ints add_mismatches(Ints count, Ints x, Ints w) {
  return each<Ints>([&](int i) {
    return count.lane[i] + byte_sum(byte_counts(static_cast<uint32_t>(x.lane[i] ^ w.lane[i])));
  });
}

#include "tails_plain.inl"
#include "epilogue.inl"
#include "packing.inl"
#include "transpose_plain.inl"

constexpr int64_t block = 32;

// Byte counts of one word are at most 8, so 31 words fit into a byte before the sums have to be taken.
constexpr int64_t words_per_byte_sum = 31;

template <bnn_output Output>
void strip_of(Strip s) {
  for (int64_t i = 0; i < s.count; ++i) {
    const uint32_t* x = s.x + s.positions[i].x;
    const uint32_t* panel = static_cast<const uint32_t*>(s.panel);
    Ints count[1][block / width] = {};
    for (int64_t r = 0; r < s.run_count; ++r) {
      const uint32_t* words = x + s.runs[r];
      for (int64_t k = 0; k < s.run_words; k += words_per_byte_sum) {
        const int64_t end = k + words_per_byte_sum < s.run_words ? k + words_per_byte_sum : s.run_words;
        uint32_t bytes[block] = {};
        for (int64_t at = k; at < end; ++at, panel += block) {
          for (int64_t lane = 0; lane < block; ++lane) bytes[lane] += byte_counts(words[at] ^ panel[lane]);
        }
        for (int64_t lane = 0; lane < block; ++lane) count[0][lane / width].lane[lane % width] += byte_sum(bytes[lane]);
      }
    }
    finish_counts<Output>(s, i, count);
  }
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

extern const Kernels portable_kernels;
const Kernels portable_kernels = {"portable", lanes,     nullptr,   nullptr,
                                  strip,      lane_strip, pack_rows, pack_columns, transpose};

}  // namespace bnn
