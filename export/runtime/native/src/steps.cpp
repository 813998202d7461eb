#include "steps.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "failure.h"

namespace bnn {

namespace {

void check_count(const char* name, const float* values, size_t count, int64_t outputs) {
  require(values == nullptr || count == 1 || count == static_cast<size_t>(outputs), [&] {
    return std::string(name) + " has " + std::to_string(count) + " entries, neither 1 nor " + std::to_string(outputs);
  });
}

}  // namespace

void check_epilogue(const bnn_epilogue& e, int64_t outputs) {
  require(e.output == BNN_INT32 || e.output == BNN_FLOAT32 || e.output == BNN_BITS,
          [&] { return "output is " + std::to_string(static_cast<int>(e.output)) + ", not a bnn_output"; });
  require(e.y != nullptr, [] { return std::string("y is null"); });
  if (e.output == BNN_BITS) {
    require(e.threshold != nullptr, [] { return std::string("threshold is null, but the output is BNN_BITS"); });
    return;
  }
  require(e.layout == BNN_CHANNELS_FIRST || e.layout == BNN_CHANNELS_LAST,
          [&] { return "layout is " + std::to_string(static_cast<int>(e.layout)) + ", not a bnn_layout"; });
  if (e.output == BNN_INT32) return;
  check_count("scale", e.scale, e.scales, outputs);
  check_count("bias", e.bias, e.biases, outputs);
  check_count("before", e.before, e.befores, outputs);
  check_count("slope", e.slope, e.slopes, outputs);
  check_count("after", e.after, e.afters, outputs);
  if (e.bits == nullptr) return;
  require(e.next != nullptr, [] { return std::string("next is null, but bits are wanted"); });
  check_count("next", e.next, e.nexts, outputs);
}

bool too_large_to_double(float scale) {
  const float size = std::fabs(scale);
  return size > std::numeric_limits<float>::max() / 2 && size <= std::numeric_limits<float>::max();
}

Steps::Steps(const bnn_epilogue& e, const std::vector<Block>& blocks, int64_t lanes, int shift)
    : blocks_(blocks), lanes_(lanes) {
  scale_ = bias_ = before_ = slope_ = after_ = next_ = nullptr;
  if (e.output != BNN_FLOAT32) return;
  const float one = 1.0f, factor = static_cast<float>(1 << shift);
  scale_ = e.scale == nullptr && shift > 0 ? spread(&one, 1, 0.0f, factor) : spread(e.scale, e.scales, 0.0f, factor);
  bias_ = spread(e.bias, e.biases, 0.0f);
  before_ = spread(e.before, e.befores, 0.0f);
  slope_ = spread(e.slope, e.slopes, 0.0f);
  after_ = spread(e.after, e.afters, 0.0f);
  // Nothing is at least NaN: outputs that do not exist get bit 0.
  if (e.bits != nullptr) next_ = spread(e.next, e.nexts, std::numeric_limits<float>::quiet_NaN());
}

const float* Steps::spread(const float* from, size_t count, float missing, float factor) {
  if (from == nullptr) return nullptr;
  Buffer<float> to(blocks_.size() * static_cast<size_t>(lanes_));
  float* lane = to.data();
  for (const Block& block : blocks_) {
    for (int64_t i = 0; i < lanes_; ++i) {
      *lane++ = i >= block.valid ? missing : factor * from[count == 1 ? 0 : block.first + i];
    }
  }
  owned_.push_back(std::move(to));
  return owned_.back().data();
}

void Steps::apply(Strip& strip, int64_t block) const {
  const int64_t at = block * lanes_;
  auto shifted = [at](const float* values) { return values == nullptr ? nullptr : values + at; };
  strip.scale = shifted(scale_);
  strip.bias = shifted(bias_);
  strip.before = shifted(before_);
  strip.slope = shifted(slope_);
  strip.after = shifted(after_);
  strip.next = shifted(next_);
}

Buffer<int32_t> limits(const Buffer<int32_t>& base, const int32_t* threshold, const std::vector<Block>& blocks,
                       int64_t lanes, int shift) {
  Buffer<int32_t> result(base.size());
  const size_t entries = blocks.size() * static_cast<size_t>(lanes);
  // Clamped so that the difference to any base fits into 32 bits: no sum comes near the ends.
  constexpr int32_t reach = 1 << 30;
  Buffer<int32_t> wanted(entries);
  int32_t* lane = wanted.data();
  for (const Block& block : blocks) {
    for (int64_t i = 0; i < lanes; ++i) {
      *lane++ = i >= block.valid ? reach : std::min(reach, std::max(-reach, threshold[block.first + i]));
    }
  }
  for (size_t c = 0; c < base.size(); c += entries) {
    for (size_t i = 0; i < entries; ++i) {
      result[c + i] = std::max(-1, (base[c + i] - wanted[i]) >> shift);
    }
  }
  return result;
}

}  // namespace bnn
