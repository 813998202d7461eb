#include "scatter.h"

namespace bnn {

namespace {

// Calls run(first, count, offset) for every run of positions of the strip that are neighbours in the tensor; offset:
// where the first of them lies for output 0.
template <typename Function>
void each_run(const Strip& strip, int64_t outputs, int64_t positions, Function run) {
  for (int64_t first = 0, next = 0; first < strip.count; first = next) {
    const int64_t y = strip.positions[first].y, n = y / positions;
    for (next = first + 1; next < strip.count && next - first < positions - y % positions; ++next) {
      if (strip.positions[next].y != y + next - first) break;
    }
    run(first, next - first, n * outputs * positions + y % positions);
  }
}

}  // namespace

void scatter_channels(const Kernels& kernels, const float* from, const Strip& strip, const Block& block,
                      int64_t outputs, int64_t positions, float* to) {
  each_run(strip, outputs, positions, [&](int64_t first, int64_t count, int64_t offset) {
    kernels.transpose(from + first * strip.lanes, strip.lanes, count, block.valid,
                      to + block.first * positions + offset, positions);
  });
}

void gather_channels(const Kernels& kernels, const float* from, const Strip& strip, const Block& block,
                     int64_t outputs, int64_t positions, float* to) {
  each_run(strip, outputs, positions, [&](int64_t first, int64_t count, int64_t offset) {
    kernels.transpose(from + block.first * positions + offset, positions, block.valid, count,
                      to + first * strip.lanes, strip.lanes);
  });
}

}  // namespace bnn
