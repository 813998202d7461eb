// Attributes that several operators share, checked.
#ifndef BNN_ORT_ATTRIBUTES_H
#define BNN_ORT_ATTRIBUTES_H

#include "ort/node.h"

namespace bnn::ort_ops {

// The attribute `low`: -1 for signed codes, 0 for unsigned ones.
bnn_codes codes(const Info& info);

// The attribute `channels` of a layer: at least 1.
int64_t channels(const Info& info);

// kernel_shape, strides, dilations and pads into the fields of that name of a public shape.
template <typename PublicShape>
void read_window(const Info& info, PublicShape* shape);

// The batch and the spatial sizes of packed activations; throws unless X is a map of that rank and of those channels.
struct Map {
  int64_t batch;
  int64_t size[3];
};
Map map_of(const Tensor& x, int32_t rank, int64_t channels);

// Throws unless the weight is [rows, ceil(terms / 8)]. Rows below 0 are not known beforehand.
void check_weight(const Tensor& weight, int64_t rows, int64_t terms);

// The product of the kernel's sizes.
int64_t taps(int32_t rank, const int64_t* kernel);

}  // namespace bnn::ort_ops

#endif
