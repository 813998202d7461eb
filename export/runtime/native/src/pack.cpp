// Packing floats into bits and back.
#include <algorithm>
#include <string>

#include "buffer.h"
#include "failure.h"
#include "kernels.h"
#include "parallel.h"

namespace bnn {

namespace {

// Sizes as signed numbers; throws where the floats of a tensor of these sizes could not be addressed.
struct PackSize {
  int64_t outer, channels, inner;
};

PackSize checked(size_t outer, size_t channels, size_t inner) {
  constexpr size_t most = static_cast<size_t>(INT64_MAX);
  require(outer <= most && channels <= most && inner <= most, [] { return std::string("a size overflows 63 bits"); });
  const PackSize s{static_cast<int64_t>(outer), static_cast<int64_t>(channels), static_cast<int64_t>(inner)};
  require(s.channels > 0, [] { return std::string("channels is 0"); });
  times(times(s.outer, s.inner), times(plus(s.channels, 31), sizeof(float)));
  return s;
}

// At least this many floats for a task, or handing it out costs more than it brings.
constexpr int64_t least_floats = 4096;

void pack(const float* x, const PackSize& s, const float* threshold, size_t thresholds, uint32_t* bits,
          const bnn_pool* pool) {
  require(thresholds == 1 || thresholds == static_cast<size_t>(s.channels), [&] {
    return "there are " + std::to_string(thresholds) + " thresholds, neither 1 nor " + std::to_string(s.channels);
  });
  Buffer<float> spread;
  if (thresholds == 1 && s.channels > 1) {
    spread = Buffer<float>(s.channels);
    std::fill_n(spread.data(), s.channels, *threshold);
    threshold = spread.data();
  }
  const Kernels& kernels = current_kernels();
  const int64_t words = static_cast<int64_t>(bnn_words(static_cast<size_t>(s.channels)));
  const int64_t least = std::max<int64_t>(1, least_floats / s.channels);
  if (s.inner == 1) {
    parallel_ranges(pool, s.outer, least, [&](int64_t begin, int64_t end) {
      kernels.pack_rows(x + begin * s.channels, end - begin, s.channels, threshold, bits + begin * words);
    });
    return;
  }
  // Multiples of 16 positions, so that no vector is cut.
  constexpr int64_t cut = 16;
  const int64_t pieces = (s.inner + cut - 1) / cut;
  parallel_ranges(pool, s.outer * pieces, std::max<int64_t>(1, least / cut), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t n = begin / pieces, first = begin % pieces, last = std::min(pieces, first + end - begin);
      kernels.pack_columns(x + n * s.channels * s.inner, s.channels, s.inner, first * cut,
                           std::min(s.inner, last * cut), threshold, bits + n * s.inner * words);
      begin += last - first;
    }
  });
}

// What eight bits stand for, for each of the 256 bytes.
class Octets {
 public:
  explicit Octets(float low) {
    for (int byte = 0; byte < 256; ++byte) {
      for (int bit = 0; bit < 8; ++bit) floats_[byte][bit] = byte >> bit & 1 ? 1.0f : low;
    }
  }
  void write(const uint32_t* bits, int64_t count, float* x) const {
    for (int64_t c = 0; c < count; c += 8) {
      const float* from = floats_[bits[c / 32] >> (c % 32) & 0xffu];
      if (count - c >= 8) {
        std::copy_n(from, 8, x + c);
      } else {
        std::copy_n(from, count - c, x + c);
      }
    }
  }

 private:
  float floats_[256][8];
};

void unpack(const uint32_t* bits, const PackSize& s, float low, float* x, const bnn_pool* pool) {
  const int64_t words = static_cast<int64_t>(bnn_words(static_cast<size_t>(s.channels)));
  const int64_t positions = s.outer * s.inner;
  if (positions == 0) return;
  if (s.inner == 1) {
    const Octets octets(low);
    parallel_ranges(pool, positions, std::max<int64_t>(1, least_floats / s.channels), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) octets.write(bits + i * words, s.channels, x + i * s.channels);
    });
    return;
  }
  parallel_ranges(pool, s.outer * s.channels, std::max<int64_t>(1, least_floats / s.inner),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t row = begin; row < end; ++row) {
                      const int64_t c = row % s.channels;
                      const uint32_t* from = bits + row / s.channels * s.inner * words + c / 32;
                      for (int64_t i = 0; i < s.inner; ++i) {
                        x[row * s.inner + i] = from[i * words] >> (c % 32) & 1u ? 1.0f : low;
                      }
                    }
                  });
}

}  // namespace

}  // namespace bnn

extern "C" {

bnn_status bnn_pack(const float* x, size_t outer, size_t channels, size_t inner, const float* threshold,
                    size_t thresholds, uint32_t* bits, const bnn_pool* pool) {
  return bnn::guarded("bnn_pack", [&] {
    const bnn::PackSize size = bnn::checked(outer, channels, inner);
    const bool empty = outer == 0 || inner == 0;
    bnn::require(empty || (x != nullptr && bits != nullptr), [] { return std::string("x or bits is null"); });
    bnn::require(threshold != nullptr, [] { return std::string("threshold is null"); });
    if (!empty) bnn::pack(x, size, threshold, thresholds, bits, pool);
  });
}

bnn_status bnn_unpack(const uint32_t* bits, size_t outer, size_t channels, size_t inner, float low, float* x,
                      const bnn_pool* pool) {
  return bnn::guarded("bnn_unpack", [&] {
    const bnn::PackSize size = bnn::checked(outer, channels, inner);
    const bool empty = outer == 0 || inner == 0;
    bnn::require(empty || (x != nullptr && bits != nullptr), [] { return std::string("x or bits is null"); });
    if (!empty) bnn::unpack(bits, size, low, x, pool);
  });
}
}
