// The per-output parameters of an epilogue, spread over blocks and lanes.
#ifndef BNN_STEPS_H
#define BNN_STEPS_H

#include <limits>
#include <vector>

#include "bnn.h"
#include "buffer.h"
#include "layer.h"

namespace bnn {

// Whether doubling that scale would overflow.
bool too_large_to_double(float scale);

class Steps {
 public:
  // The scale gets the factor 1 << shift, which is exact.
  Steps(const bnn_epilogue& epilogue, const std::vector<Block>& blocks, int64_t lanes, int shift);

  // Points the strip at the parameters of that block.
  void apply(Strip& strip, int64_t block) const;

 private:
  const float* spread(const float* from, size_t count, float missing, float factor = 1.0f);

  const std::vector<Block>& blocks_;
  int64_t lanes_;
  std::vector<Buffer<float>> owned_;
  const float *scale_, *bias_, *before_, *slope_, *after_, *next_;
};

// limit[class][block][lane] so that z >= threshold just where count <= limit; -1 where there is no output.
Buffer<int32_t> limits(const Buffer<int32_t>& base, const int32_t* threshold, const std::vector<Block>& blocks,
                       int64_t lanes, int shift);

}  // namespace bnn

#endif
