// The operators without weights: packing, unpacking, pooling.
#include <algorithm>

#include "ort/attributes.h"
#include "ort/operators.h"

namespace bnn::ort_ops {

namespace {

int64_t axis_of(const Info& info) {
  const int64_t axis = info.integer("axis");
  require(axis >= 0, [&] { return "attribute 'axis' is " + std::to_string(axis) + ", expected 0 or more"; });
  return axis;
}

void check_axis(const Shape& shape, int64_t axis) {
  require(axis < static_cast<int64_t>(shape.size()), [&] {
    return "input 'X' has shape " + text(shape) + ", which has no place for the channels at axis " +
           std::to_string(axis);
  });
}

class PackKernel final : public Kernel {
 public:
  explicit PackKernel(const Info& info) : axis_(axis_of(info)) {}

  void run(Call& call) const override {
    const Tensor x = call.input(0), threshold = call.input(1);
    check_axis(x.shape, axis_);
    const int64_t count = x.shape[static_cast<size_t>(axis_)];
    const bool fits = threshold.shape.size() == 1 && (threshold.shape[0] == 1 || threshold.shape[0] == count);
    require(fits, [&] {
      return "input 'threshold' has shape " + text(threshold.shape) + ", expected [1] or [" + std::to_string(count) +
             "]";
    });
    const Shape outer(x.shape.begin(), x.shape.begin() + axis_), inner(x.shape.begin() + axis_ + 1, x.shape.end());
    Shape shape = outer;
    shape.insert(shape.end(), inner.begin(), inner.end());
    shape.push_back(packed_bytes(count));
    auto* bits = static_cast<uint32_t*>(call.output(0, shape));
    if (elements(shape) == 0) return;
    check(bnn_pack(x.floats(), static_cast<size_t>(elements(outer)), static_cast<size_t>(count),
                   static_cast<size_t>(elements(inner)), threshold.floats(), static_cast<size_t>(threshold.shape[0]),
                   bits, call.pool()));
  }

 private:
  int64_t axis_;
};

class UnpackKernel final : public Kernel {
 public:
  explicit UnpackKernel(const Info& info)
      : axis_(axis_of(info)), channels_(channels(info)), low_(codes(info) == BNN_SIGNED ? -1.0f : 0.0f) {}

  void run(Call& call) const override {
    const Tensor x = call.input(0);
    check_axis(x.shape, axis_);
    require(x.shape.back() == packed_bytes(channels_), [&] {
      return "input 'X' has shape " + text(x.shape) + ", expected " + std::to_string(packed_bytes(channels_)) +
             " bytes in the last dimension for " + std::to_string(channels_) + " channels";
    });
    const Shape outer(x.shape.begin(), x.shape.begin() + axis_), inner(x.shape.begin() + axis_, x.shape.end() - 1);
    Shape shape = outer;
    shape.push_back(channels_);
    shape.insert(shape.end(), inner.begin(), inner.end());
    auto* y = static_cast<float*>(call.output(0, shape));
    if (elements(shape) == 0) return;
    check(bnn_unpack(call.words(x), static_cast<size_t>(elements(outer)), static_cast<size_t>(channels_),
                     static_cast<size_t>(elements(inner)), low_, y, call.pool()));
  }

 private:
  int64_t axis_, channels_;
  float low_;
};

class MaxPoolKernel final : public Kernel {
 public:
  explicit MaxPoolKernel(const Info& info) {
    read_window(info, &shape_);
    shape_.channels = channels(info);
  }

  void run(Call& call) const override {
    const Tensor x = call.input(0);
    const Map map = map_of(x, shape_.rank, shape_.channels);
    int64_t size[3];
    check(bnn_maxpool_output_size(&shape_, map.size, size));
    Shape shape{map.batch};
    shape.insert(shape.end(), size, size + shape_.rank);
    shape.push_back(x.shape.back());
    auto* bits = static_cast<uint32_t*>(call.output(0, shape));
    if (elements(shape) == 0) return;
    check(bnn_maxpool(&shape_, call.words(x), map.batch, map.size, bits, call.pool()));
  }

 private:
  bnn_pool_shape shape_{};
};

}  // namespace

std::unique_ptr<Kernel> make_pack(const Info& info) { return std::make_unique<PackKernel>(info); }
std::unique_ptr<Kernel> make_unpack(const Info& info) { return std::make_unique<UnpackKernel>(info); }
std::unique_ptr<Kernel> make_maxpool(const Info& info) { return std::make_unique<MaxPoolKernel>(info); }

}  // namespace bnn::ort_ops
