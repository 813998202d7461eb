#include "ort/epilogue.h"

namespace bnn::ort_ops {

namespace {

constexpr size_t first_input = 2;  // behind X and weight
constexpr std::array<float, 6> neutral{1.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f};

// A vector with an entry per output or, unless `each`, with one for all.
Tensor vector(const Call& call, size_t index, int64_t outputs, bool each = false) {
  Tensor tensor = call.input(index);
  const bool fits = tensor.shape.size() == 1 && (tensor.shape[0] == outputs || (tensor.shape[0] == 1 && !each));
  require(fits, [&] {
    return std::string("input '") + tensor.name + "' has shape " + text(tensor.shape) + ", expected [" +
           std::to_string(outputs) + "]" + (each ? "" : " or [1]");
  });
  return tensor;
}

Shape with_channels(const Shape& lead, int64_t channels, bnn_layout layout) {
  Shape shape = lead;
  shape.insert(layout == BNN_CHANNELS_FIRST ? shape.begin() + 1 : shape.end(), channels);
  return shape;
}

}  // namespace

Epilogue::Epilogue(const Info& info) : op_(info.op()) {
  if (op_.output != BNN_FLOAT32) return;
  for (size_t step = 0; step < kSteps; ++step) {
    Tensor tensor;
    dropped_[step] = info.constant(first_input + step, &tensor) && tensor.shape == Shape{1} &&
                     tensor.floats()[0] == neutral[step];
  }
}

void Epilogue::bind(Call& call, const Shape& lead, int64_t outputs, Bound& bound) const {
  bound.epilogue = {};
  bnn_epilogue& epilogue = bound.epilogue;
  epilogue.output = op_.output;
  epilogue.layout = op_.layout;
  Shape bits = lead;
  bits.push_back(packed_bytes(outputs));
  const Shape shape = op_.output == BNN_BITS ? bits : with_channels(lead, outputs, op_.layout);
  bound.empty = elements(shape) == 0;
  if (op_.output == BNN_BITS) {
    epilogue.threshold = static_cast<const int32_t*>(vector(call, first_input, outputs, true).data);
  } else if (op_.output == BNN_FLOAT32) {
    bind_steps(call, shape, outputs, bound);
  }
  epilogue.y = call.output(0, shape);
  if (op_.outputs.size() > 1) epilogue.bits = static_cast<uint32_t*>(call.output(1, bits));
}

void Epilogue::bind_steps(Call& call, const Shape& shape, int64_t outputs, Bound& bound) const {
  bnn_epilogue& epilogue = bound.epilogue;
  const auto bind_vector = [&](size_t step, const float** values, size_t* count) {
    if (step < kSteps && dropped_[step]) return;
    const Tensor tensor = vector(call, first_input + step, outputs);
    *values = tensor.floats();
    *count = static_cast<size_t>(tensor.shape[0]);
  };
  bind_vector(kScale, &epilogue.scale, &epilogue.scales);
  bind_vector(kBias, &epilogue.bias, &epilogue.biases);
  bind_vector(kBefore, &epilogue.before, &epilogue.befores);
  bind_vector(kSlope, &epilogue.slope, &epilogue.slopes);
  bind_vector(kAfter, &epilogue.after, &epilogue.afters);
  if (op_.outputs.size() > 1) bind_vector(kSteps, &epilogue.next, &epilogue.nexts);
  if (dropped_[kResidual]) return;
  const Tensor residual = call.input(first_input + kResidual);
  if (residual.shape == shape) {
    epilogue.residual = residual.floats();
    return;
  }
  require(residual.shape == Shape{1}, [&] {
    return "input 'residual' has shape " + text(residual.shape) + ", expected that of the output, " + text(shape) +
           ", or [1]";
  });
  bound.residual.assign(static_cast<size_t>(elements(shape)), residual.floats()[0]);
  epilogue.residual = bound.residual.data();
}

}  // namespace bnn::ort_ops
