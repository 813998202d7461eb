// Convolution, transposed convolution and dense layer: one kernel each, whatever becomes of the sums.
#include <memory>

#include "ort/attributes.h"
#include "ort/epilogue.h"
#include "ort/operators.h"

namespace bnn::ort_ops {

namespace {

template <typename Object, void (*destroy)(Object*)>
struct Destroy {
  void operator()(Object* object) const { destroy(object); }
};
template <typename Object, void (*destroy)(Object*)>
using Owner = std::unique_ptr<Object, Destroy<Object, destroy>>;

// A kernel whose weight is prepared when the kernel is created if it is constant, else in every run.
template <typename Prepared>
class LayerKernel : public Kernel {
 public:
  explicit LayerKernel(const Info& info) : epilogue_(info) {}

  void run(Call& call) const final {
    if (constant_) return run_with(call, constant_);
    run_with(call, prepare(call.input(1)));
  }

 protected:
  void prepare_constant(const Info& info) {
    Tensor weight;
    if (info.constant(1, &weight)) constant_ = prepare(weight);
  }
  virtual Prepared prepare(const Tensor& weight) const = 0;
  virtual void run_with(Call& call, const Prepared& layer) const = 0;

  Epilogue epilogue_;

 private:
  Prepared constant_;
};

struct PreparedConv {
  Owner<bnn_conv, bnn_conv_destroy> object;
  int64_t outputs = 0;
  explicit operator bool() const { return object != nullptr; }
};

class ConvKernel final : public LayerKernel<PreparedConv> {
 public:
  explicit ConvKernel(const Info& info) : LayerKernel(info) {
    read_window(info, &shape_);
    shape_.channels = channels(info);
    shape_.groups = info.integer("group");
    require(shape_.groups >= 1 && shape_.channels % shape_.groups == 0, [&] {
      return "attribute 'group' is " + std::to_string(shape_.groups) + ", which does not divide the " +
             std::to_string(shape_.channels) + " channels";
    });
    const float pad = info.real("pad_value");
    require(pad == -1.0f || pad == 0.0f || pad == 1.0f,
            [&] { return "attribute 'pad_value' is " + std::to_string(pad) + ", expected -1, 0 or 1"; });
    shape_.pad_value = static_cast<int32_t>(pad);
    shape_.codes = codes(info);
    require(shape_.codes == BNN_SIGNED || shape_.pad_value >= 0,
            [] { return std::string("attribute 'pad_value' is -1, but codes whose low is 0 are padded with 0 or 1"); });
    prepare_constant(info);
  }

 private:
  PreparedConv prepare(const Tensor& weight) const override {
    check_weight(weight, -1, times(shape_.channels / shape_.groups, taps(shape_.rank, shape_.kernel)));
    bnn_conv_shape shape = shape_;
    shape.outputs = weight.shape[0];
    bnn_conv* object = nullptr;
    check(bnn_conv_create(&shape, static_cast<const uint8_t*>(weight.data), static_cast<size_t>(weight.count()),
                          &object));
    PreparedConv prepared;
    prepared.object.reset(object);
    prepared.outputs = shape.outputs;
    return prepared;
  }

  void run_with(Call& call, const PreparedConv& layer) const override {
    const Tensor x = call.input(0);
    const Map map = map_of(x, shape_.rank, shape_.channels);
    int64_t size[3];
    check(bnn_conv_output_size(layer.object.get(), map.size, size));
    Shape lead{map.batch};
    lead.insert(lead.end(), size, size + shape_.rank);
    Bound bound;
    epilogue_.bind(call, lead, layer.outputs, bound);
    if (bound.empty) return;
    check(bnn_conv_run(layer.object.get(), call.words(x), map.batch, map.size, &bound.epilogue, call.pool()));
  }

  bnn_conv_shape shape_{};
};

struct PreparedTransposed {
  Owner<bnn_transposed, bnn_transposed_destroy> object;
  explicit operator bool() const { return object != nullptr; }
};

class TransposedKernel final : public LayerKernel<PreparedTransposed> {
 public:
  explicit TransposedKernel(const Info& info) : LayerKernel(info) {
    read_window(info, &shape_);
    shape_.channels = channels(info);
    shape_.outputs = info.only("outputs");
    shape_.groups = info.integer("group");
    const bool divides = shape_.groups >= 1 && shape_.channels % shape_.groups == 0 && shape_.outputs >= 1 &&
                         shape_.outputs % shape_.groups == 0;
    require(divides, [&] {
      return "attribute 'group' is " + std::to_string(shape_.groups) + ", which does not divide the " +
             std::to_string(shape_.channels) + " channels and " + std::to_string(shape_.outputs) + " outputs";
    });
    // The outputs of each remainder modulo the strides have taps, and so tables, of their own.
    constexpr int64_t most_phases = 4096;
    require(elements(Shape(shape_.stride, shape_.stride + shape_.rank)) <= most_phases, [&] {
      return "attribute 'strides' is " + text(Shape(shape_.stride, shape_.stride + shape_.rank)) +
             ", whose product is more than " + std::to_string(most_phases);
    });
    const Shape more = info.integers("output_padding");
    bool fits = more.size() == static_cast<size_t>(shape_.rank);
    for (size_t d = 0; fits && d < more.size(); ++d) {
      shape_.output_pad[d] = more[d];
      fits = more[d] >= 0 && more[d] < shape_.stride[d];
    }
    require(fits, [&] {
      return "attribute 'output_padding' is " + text(more) + ", expected " + std::to_string(shape_.rank) +
             " entries, each from 0 to below its stride";
    });
    shape_.codes = codes(info);
    prepare_constant(info);
  }

 private:
  PreparedTransposed prepare(const Tensor& weight) const override {
    const int64_t terms = times(shape_.outputs / shape_.groups, taps(shape_.rank, shape_.kernel));
    check_weight(weight, shape_.channels, terms);
    bnn_transposed* object = nullptr;
    check(bnn_transposed_create(&shape_, static_cast<const uint8_t*>(weight.data),
                                static_cast<size_t>(weight.count()), &object));
    PreparedTransposed prepared;
    prepared.object.reset(object);
    return prepared;
  }

  void run_with(Call& call, const PreparedTransposed& layer) const override {
    const Tensor x = call.input(0);
    const Map map = map_of(x, shape_.rank, shape_.channels);
    int64_t size[3];
    check(bnn_transposed_output_size(layer.object.get(), map.size, size));
    Shape lead{map.batch};
    lead.insert(lead.end(), size, size + shape_.rank);
    Bound bound;
    epilogue_.bind(call, lead, shape_.outputs, bound);
    if (bound.empty) return;
    check(bnn_transposed_run(layer.object.get(), call.words(x), map.batch, map.size, &bound.epilogue, call.pool()));
  }

  bnn_transposed_shape shape_{};
};

struct PreparedDense {
  Owner<bnn_dense, bnn_dense_destroy> object;
  int64_t outputs = 0;
  explicit operator bool() const { return object != nullptr; }
};

class DenseKernel final : public LayerKernel<PreparedDense> {
 public:
  explicit DenseKernel(const Info& info) : LayerKernel(info), terms_(channels(info)), codes_(codes(info)) {
    prepare_constant(info);
  }

 private:
  PreparedDense prepare(const Tensor& weight) const override {
    check_weight(weight, -1, terms_);
    bnn_dense* object = nullptr;
    check(bnn_dense_create(terms_, weight.shape[0], codes_, static_cast<const uint8_t*>(weight.data),
                           static_cast<size_t>(weight.count()), &object));
    PreparedDense prepared;
    prepared.object.reset(object);
    prepared.outputs = weight.shape[0];
    return prepared;
  }

  void run_with(Call& call, const PreparedDense& layer) const override {
    const Tensor x = call.input(0);
    const int64_t bytes = packed_bytes(terms_);
    require(!x.shape.empty() && x.shape.back() == bytes, [&] {
      return "input 'X' has shape " + text(x.shape) + ", expected " + std::to_string(bytes) + " bytes in the last "
             "dimension for " + std::to_string(terms_) + " terms";
    });
    const Shape lead(x.shape.begin(), x.shape.end() - 1);
    Bound bound;
    epilogue_.bind(call, lead, layer.outputs, bound);
    if (bound.empty) return;
    check(bnn_dense_run(layer.object.get(), call.words(x), elements(lead), &bound.epilogue, call.pool()));
  }

  int64_t terms_;
  bnn_codes codes_;
};

}  // namespace

std::unique_ptr<Kernel> make_conv(const Info& info) { return std::make_unique<ConvKernel>(info); }
std::unique_ptr<Kernel> make_transposed(const Info& info) { return std::make_unique<TransposedKernel>(info); }
std::unique_ptr<Kernel> make_dense(const Info& info) { return std::make_unique<DenseKernel>(info); }

}  // namespace bnn::ort_ops
