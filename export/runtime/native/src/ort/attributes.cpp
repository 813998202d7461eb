#include "ort/attributes.h"

#include <algorithm>

namespace bnn::ort_ops {

namespace {

// Beyond 31 bits no size of a window makes sense, and sums and products of two of them would soon overflow.
constexpr int64_t most = (int64_t{1} << 31) - 1;

// A list with that many entries, copied to `out`.
void read_list(const Info& info, const char* name, size_t expected, int64_t least, int64_t* out) {
  const Shape values = info.integers(name);
  require(values.size() == expected, [&] {
    return std::string("attribute '") + name + "' has " + std::to_string(values.size()) + " entries, expected " +
           std::to_string(expected);
  });
  for (const int64_t value : values) {
    require(value >= least && value <= most, [&] {
      return std::string("attribute '") + name + "' is " + text(values) + ", but its entries must be at least " +
             std::to_string(least) + " and at most " + std::to_string(most);
    });
  }
  std::copy(values.begin(), values.end(), out);
}

}  // namespace

bnn_codes codes(const Info& info) {
  const float low = info.real("low");
  require(low == -1.0f || low == 0.0f,
          [&] { return "attribute 'low' is " + std::to_string(low) + ", expected -1 or 0"; });
  return low == 0.0f ? BNN_UNSIGNED : BNN_SIGNED;
}

int64_t channels(const Info& info) {
  const int64_t value = info.only("channels");
  require(value >= 1, [&] { return "attribute 'channels' is " + std::to_string(value) + ", expected at least 1"; });
  return value;
}

template <typename PublicShape>
void read_window(const Info& info, PublicShape* shape) {
  const size_t rank = info.integers("kernel_shape").size();
  require(rank >= 1 && rank <= 3, [&] {
    return "attribute 'kernel_shape' has " + std::to_string(rank) + " entries, expected 1 to 3 spatial dimensions";
  });
  shape->rank = static_cast<int32_t>(rank);
  int64_t pads[6];
  read_list(info, "kernel_shape", rank, 1, shape->kernel);
  read_list(info, "strides", rank, 1, shape->stride);
  read_list(info, "dilations", rank, 1, shape->dilation);
  read_list(info, "pads", 2 * rank, 0, pads);
  std::copy(pads, pads + rank, shape->pad_begin);
  std::copy(pads + rank, pads + 2 * rank, shape->pad_end);
}

template void read_window(const Info& info, bnn_conv_shape* shape);
template void read_window(const Info& info, bnn_transposed_shape* shape);
template void read_window(const Info& info, bnn_pool_shape* shape);

Map map_of(const Tensor& x, int32_t rank, int64_t channels) {
  const auto expected = static_cast<size_t>(rank) + 2;
  require(x.shape.size() == expected, [&] {
    return std::string("input '") + x.name + "' has shape " + text(x.shape) + ", expected " +
           std::to_string(expected) + " dimensions: the batch, " + std::to_string(rank) + " sizes and the bytes";
  });
  require(x.shape.back() == packed_bytes(channels), [&] {
    return std::string("input '") + x.name + "' has " + std::to_string(x.shape.back()) + " bytes per position, but " +
           std::to_string(channels) + " channels take " + std::to_string(packed_bytes(channels));
  });
  Map map{x.shape[0], {1, 1, 1}};
  std::copy(x.shape.begin() + 1, x.shape.end() - 1, map.size);
  return map;
}

void check_weight(const Tensor& weight, int64_t rows, int64_t terms) {
  const int64_t bytes = terms / 8 + (terms % 8 != 0);
  const bool fits = weight.shape.size() == 2 && weight.shape[1] == bytes &&
                    (rows < 0 ? weight.shape[0] >= 1 : weight.shape[0] == rows);
  require(fits, [&] {
    return "input 'weight' has shape " + text(weight.shape) + ", expected [" +
           (rows < 0 ? "outputs" : std::to_string(rows)) + ", " + std::to_string(bytes) + "] for rows of " +
           std::to_string(terms) + " bits";
  });
}

int64_t taps(int32_t rank, const int64_t* kernel) { return elements(Shape(kernel, kernel + rank)); }

}  // namespace bnn::ort_ops
