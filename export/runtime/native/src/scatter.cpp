#include "scatter.h"

#include <cstring>

namespace bnn {

namespace {

// Calls run(first, count, offset) for every run of positions of the strip that are neighbours in the tensor; offset:
// where the first of them lies for output 0.
template <typename Function>
void each_run(const Strip& strip, int64_t outputs, int64_t positions, Function run) {
  for (int64_t first = 0, next = 0; first < strip.count; first = next) {
    const int64_t y = strip.origin + strip.positions[first].y, n = y / positions;
    for (next = first + 1; next < strip.count && next - first < positions - y % positions; ++next) {
      if (strip.origin + strip.positions[next].y != y + next - first) break;
    }
    run(first, next - first, n * outputs * positions + y % positions);
  }
}

}  // namespace

void scatter(const Target& t, const float* local, float* tensor) {
  const Strip& strip = *t.strip;
  if (!t.channels_first) {
    for (int64_t i = 0; i < strip.count; ++i) {
      std::memcpy(tensor + (strip.origin + strip.positions[i].y) * t.outputs + t.block->first, local + i * strip.lanes,
                  static_cast<size_t>(t.block->valid) * sizeof *tensor);
    }
    return;
  }
  each_run(strip, t.outputs, t.positions, [&](int64_t first, int64_t count, int64_t offset) {
    t.kernels->transpose(local + first * strip.lanes, strip.lanes, count, t.block->valid,
                         tensor + t.block->first * t.positions + offset, t.positions);
  });
}

void gather(const Target& t, const float* tensor, float* local) {
  const Strip& strip = *t.strip;
  if (!t.channels_first) {
    for (int64_t i = 0; i < strip.count; ++i) {
      std::memcpy(local + i * strip.lanes, tensor + (strip.origin + strip.positions[i].y) * t.outputs + t.block->first,
                  static_cast<size_t>(t.block->valid) * sizeof *tensor);
    }
    return;
  }
  each_run(strip, t.outputs, t.positions, [&](int64_t first, int64_t count, int64_t offset) {
    t.kernels->transpose(tensor + t.block->first * t.positions + offset, t.positions, t.block->valid, count,
                         local + first * strip.lanes, strip.lanes);
  });
}

}  // namespace bnn
