// Results between their strips and tensors in which the positions or channels of a strip do not lie together.
#ifndef BNN_SCATTER_H
#define BNN_SCATTER_H

#include "kernels.h"
#include "layer.h"

namespace bnn {

// Which part of a tensor of `outputs` by `positions` per image a strip is.
struct Target {
  const Kernels* kernels;
  const Strip* strip;
  const Block* block;
  int64_t outputs, positions;
  bool channels_first;
};

// `local` holds 4-byte values of the strip by position and lane.
void scatter(const Target& target, const float* local, float* tensor);
void gather(const Target& target, const float* tensor, float* local);

}  // namespace bnn

#endif
