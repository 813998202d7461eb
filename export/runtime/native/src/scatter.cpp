#include "scatter.h"

#include <cstring>

namespace bnn {

namespace {

// offset[i]: where position i of the strip lies in the tensor, for output 0.
void offsets(const Strip& strip, int64_t outputs, int64_t positions, int64_t* offset) {
  for (int64_t i = 0; i < strip.count; ++i) {
    const int64_t y = strip.positions[i].y;
    offset[i] = y / positions * outputs * positions + y % positions;
  }
}

}  // namespace

// Copied as bytes: the buffer holds floats or int32_t.
void scatter_channels(const float* from, const Strip& strip, const Block& block, int64_t outputs, int64_t positions,
                      float* to) {
  int64_t offset[strip_positions];
  offsets(strip, outputs, positions, offset);
  for (int64_t lane = 0; lane < block.valid; ++lane) {
    float* channel = to + (block.first + lane) * positions;
    for (int64_t i = 0; i < strip.count; ++i) std::memcpy(channel + offset[i], from + i * strip.lanes + lane, sizeof *to);
  }
}

void gather_channels(const float* from, const Strip& strip, const Block& block, int64_t outputs, int64_t positions,
                     float* to) {
  int64_t offset[strip_positions];
  offsets(strip, outputs, positions, offset);
  for (int64_t lane = 0; lane < block.valid; ++lane) {
    const float* channel = from + (block.first + lane) * positions;
    for (int64_t i = 0; i < strip.count; ++i) to[i * strip.lanes + lane] = channel[offset[i]];
  }
}

}  // namespace bnn
