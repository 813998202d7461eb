#include "feed.h"

#include <algorithm>
#include <cstring>

#include "parallel.h"

namespace bnn {

namespace {

// `count` <= 32 bits of a position from bit `first` on. Reads only words that have some of these bits.
inline uint32_t take_bits(const uint32_t* words, int64_t first, int64_t count) {
  const int64_t shift = first % 32;
  uint32_t bits = words[first / 32] >> shift;
  if (shift + count > 32) bits |= words[first / 32 + 1] << (32 - shift);
  return count == 32 ? bits : bits & ((1u << count) - 1);
}

// The words of every group, each group from a word of its own.
void align_groups(const FeedShape& s, const uint32_t* from, uint32_t* to) {
  const int64_t group_channels = s.channels / s.groups;
  for (int64_t group = 0; group < s.groups; ++group) {
    for (int64_t at = 0; at < group_channels; at += 32) {
      *to++ = take_bits(from, group * group_channels + at, std::min<int64_t>(32, group_channels - at));
    }
  }
}

// to[k][output] = word k of the group of that output.
void spread_to_lanes(const FeedShape& s, const uint32_t* from, uint32_t* to) {
  const int64_t group_channels = s.channels / s.groups, group_outputs = s.outputs / s.groups;
  const int64_t row = s.position_words / s.group_words;
  for (int64_t k = 0; k < s.group_words; ++k, to += row) {
    const int64_t count = std::min<int64_t>(32, group_channels - k * 32);
    uint32_t* lane = to;
    for (int64_t group = 0; group < s.groups; ++group) {
      const uint32_t word = take_bits(from, group * group_channels + k * 32, count);
      for (int64_t i = 0; i < group_outputs; ++i) *lane++ = word;
    }
    std::fill(lane, to + row, 0u);
  }
}

void feed_positions(const FeedShape& s, const uint32_t* from, int64_t count, uint32_t* to) {
  const int64_t words = static_cast<int64_t>(bnn_words(static_cast<size_t>(s.channels)));
  if (s.feed == Feed::whole) {
    std::memcpy(to, from, static_cast<size_t>(count * words) * sizeof *to);
    return;
  }
  for (int64_t i = 0; i < count; ++i, from += words, to += s.position_words) {
    if (s.feed == Feed::aligned) {
      align_groups(s, from, to);
    } else {
      spread_to_lanes(s, from, to);
    }
  }
}

}  // namespace

void feed_input(const FeedShape& s, const Fit& fit, const uint32_t* bits, int64_t batch, uint32_t* to,
                const bnn_pool* pool) {
  const Sizes &size = fit.size, &padded = fit.padded, &before = fit.before;
  const int64_t words = static_cast<int64_t>(bnn_words(static_cast<size_t>(s.channels)));
  const int64_t line_words = padded[2] * s.position_words;
  parallel_ranges(pool, batch * padded[0] * padded[1], 8, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      uint32_t* out = to + line * line_words;
      const int64_t b = line % padded[1] - before[1], a = line / padded[1] % padded[0] - before[0];
      const int64_t n = line / padded[1] / padded[0];
      if (a < 0 || a >= size[0] || b < 0 || b >= size[1]) {
        std::fill_n(out, line_words, 0u);
        continue;
      }
      uint32_t* inside = std::fill_n(out, before[2] * s.position_words, 0u);
      feed_positions(s, bits + ((n * size[0] + a) * size[1] + b) * size[2] * words, size[2], inside);
      inside += size[2] * s.position_words;
      std::fill(inside, out + line_words, 0u);
    }
  });
}

}  // namespace bnn
