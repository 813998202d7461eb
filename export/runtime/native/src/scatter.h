// The buffer holds floats or int32_t, which are moved as they are.
// Between a strip's own buffer [position][lane] and tensors with channels first, [batch, outputs, positions].
#ifndef BNN_SCATTER_H
#define BNN_SCATTER_H

#include <cstdint>

#include "kernels.h"
#include "layer.h"

namespace bnn {

void scatter_channels(const Kernels& kernels, const float* from, const Strip& strip, const Block& block, int64_t outputs, int64_t positions,
                      float* to);
void gather_channels(const Kernels& kernels, const float* from, const Strip& strip, const Block& block, int64_t outputs, int64_t positions,
                     float* to);

}  // namespace bnn

#endif
