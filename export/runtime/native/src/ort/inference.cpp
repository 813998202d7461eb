#include "ort/inference.h"

#include <memory>

namespace bnn::ort_ops {

namespace {

bool usable(const Size& size) { return size.known() || !size.name.empty(); }

// A size computed from another one: by value where that is known, else by a name that says how, so that equal names
// are equal sizes.
template <typename Compute>
Size derived(const Size& from, Compute compute, const std::string& name) {
  if (from.known()) return {compute(from.value), ""};
  return {-1, from.name.empty() ? "" : name};
}

Size packed_size(const Size& channels) {
  return derived(channels, packed_bytes, "4*ceil(" + channels.name + "/32)");
}

// The attributes of a window; false unless they are all there and fit together.
struct WindowSizes {
  Shape kernel, stride, dilation, pads;

  bool read(const Inference& inference) {
    if (!inference.integers("kernel_shape", &kernel) || !inference.integers("strides", &stride) ||
        !inference.integers("dilations", &dilation) || !inference.integers("pads", &pads)) {
      return false;
    }
    const size_t rank = kernel.size();
    return stride.size() == rank && dilation.size() == rank && pads.size() == 2 * rank;
  }
  // What one dimension reads beyond its last window's first tap, less the padding. Sizes of models fit in 32 bits;
  // where these do not, nothing is said.
  bool slack(size_t d, int64_t* result) const {
    const int64_t most = int64_t{1} << 31;
    const int64_t begin = pads[d], end = pads[d + kernel.size()];
    for (const int64_t value : {kernel[d], stride[d], dilation[d], begin, end}) {
      if (value < 0 || value >= most) return false;
    }
    if (stride[d] == 0) return false;
    *result = begin + end - dilation[d] * (kernel[d] - 1);
    return true;
  }
};

// [N, size...] of the output of windows over a packed map.
bool windows(const SymbolicShape& x, const WindowSizes& w, SymbolicShape* lead) {
  if (x.size() != w.kernel.size() + 2) return false;
  *lead = {x[0]};
  for (size_t d = 0; d < w.kernel.size(); ++d) {
    int64_t slack = 0;
    if (!w.slack(d, &slack)) return false;
    const int64_t stride = w.stride[d];
    if (x[d + 1].known() && x[d + 1].value + slack < 1) return false;
    const auto compute = [&](int64_t size) { return (size + slack - 1) / stride + 1; };
    const std::string name = stride == 1 && slack == 0
                                 ? x[d + 1].name
                                 : "floor((" + x[d + 1].name + "+" + std::to_string(slack - 1) + ")/" +
                                       std::to_string(stride) + ")+1";
    lead->push_back(derived(x[d + 1], compute, name));
  }
  return true;
}

// The outputs of a layer, from the sizes of its output without the channels.
void layer_outputs(const Operator& op, const Inference& inference, const SymbolicShape& lead, const Size& outputs) {
  SymbolicShape bits = lead, whole = lead;
  bits.push_back(packed_size(outputs));
  whole.insert(op.layout == BNN_CHANNELS_FIRST ? whole.begin() + 1 : whole.end(), outputs);
  inference.output(0, op.output == BNN_BITS ? bits : whole);
  if (op.outputs.size() > 1) inference.output(1, bits);
}

}  // namespace

bool Inference::input(size_t index, SymbolicShape* shape) const {
  ort::TensorTypeAndShapeInfo* raw = nullptr;
  if (ort::Status* status = api_.ShapeInferContext_GetInputTypeShape(context_, index, &raw)) {
    api_.ReleaseStatus(status);
    return false;
  }
  // The context owns this information. A shape that is not known has rank 0 here.
  size_t rank = 0;
  ort::Status* status = api_.GetDimensionsCount(raw, &rank);
  Shape values(rank);
  std::vector<const char*> names(rank, "");
  if (status == nullptr) status = api_.GetDimensions(raw, values.data(), rank);
  if (status == nullptr) status = api_.GetSymbolicDimensions(raw, names.data(), rank);
  if (status != nullptr) {
    api_.ReleaseStatus(status);
    return false;
  }
  shape->clear();
  for (size_t i = 0; i < rank; ++i) shape->push_back({values[i], names[i] == nullptr ? "" : names[i]});
  return rank != 0;
}

bool Inference::integers(const char* name, Shape* values) const {
  const ort::OpAttr* attribute = nullptr;
  size_t bytes = 0;
  ort::Status* status = api_.ShapeInferContext_GetAttribute(context_, name, &attribute);
  if (status == nullptr) {
    // Too little room is a failure that says how much is needed.
    int64_t room[8];
    status = api_.ReadOpAttr(attribute, ort::kAttrInts, room, sizeof room, &bytes);
    if (status == nullptr) values->assign(room, room + bytes / sizeof(int64_t));
  }
  if (status == nullptr) return true;
  api_.ReleaseStatus(status);
  return false;
}

bool Inference::integer(const char* name, int64_t* value) const {
  const ort::OpAttr* attribute = nullptr;
  size_t bytes = 0;
  ort::Status* status = api_.ShapeInferContext_GetAttribute(context_, name, &attribute);
  if (status == nullptr) status = api_.ReadOpAttr(attribute, ort::kAttrInt, value, sizeof *value, &bytes);
  if (status == nullptr) return true;
  api_.ReleaseStatus(status);
  return false;
}

void Inference::output(size_t index, const SymbolicShape& shape) const {
  Shape values;
  std::vector<const char*> names;
  for (const Size& size : shape) {
    if (!usable(size)) return;
    values.push_back(size.value);
    names.push_back(size.known() ? "" : size.name.c_str());
  }
  ort::TensorTypeAndShapeInfo* info = nullptr;
  ort::Status* status = api_.CreateTensorTypeAndShapeInfo(&info);
  if (status == nullptr) status = api_.SetTensorElementType(info, op_.outputs[index].type);
  if (status == nullptr) status = api_.SetDimensions(info, values.data(), values.size());
  if (status == nullptr) status = api_.SetSymbolicDimensions(info, names.data(), names.size());
  if (status == nullptr) status = api_.ShapeInferContext_SetOutputTypeShape(context_, index, info);
  if (info != nullptr) api_.ReleaseTensorTypeAndShapeInfo(info);
  if (status != nullptr) api_.ReleaseStatus(status);
}

void infer_pack(const Operator&, Inference& inference) {
  SymbolicShape x;
  int64_t axis = 0;
  if (!inference.input(0, &x) || !inference.integer("axis", &axis)) return;
  if (axis < 0 || axis >= static_cast<int64_t>(x.size())) return;
  const Size count = x[static_cast<size_t>(axis)];
  x.erase(x.begin() + axis);
  x.push_back(packed_size(count));
  inference.output(0, x);
}

void infer_unpack(const Operator&, Inference& inference) {
  SymbolicShape x;
  int64_t axis = 0;
  Shape channels;
  if (!inference.input(0, &x) || !inference.integer("axis", &axis) || !inference.integers("channels", &channels)) return;
  if (axis < 0 || axis >= static_cast<int64_t>(x.size()) || channels.size() != 1) return;
  x.pop_back();
  x.insert(x.begin() + axis, Size{channels[0], ""});
  inference.output(0, x);
}

void infer_conv(const Operator& op, Inference& inference) {
  SymbolicShape x, weight, lead;
  WindowSizes w;
  if (!inference.input(0, &x) || !inference.input(1, &weight) || !w.read(inference)) return;
  if (windows(x, w, &lead)) layer_outputs(op, inference, lead, weight[0]);
}

void infer_transposed(const Operator& op, Inference& inference) {
  SymbolicShape x;
  WindowSizes w;
  Shape more, outputs;
  if (!inference.input(0, &x) || !w.read(inference) || !inference.integers("output_padding", &more) ||
      !inference.integers("outputs", &outputs)) {
    return;
  }
  const size_t rank = w.kernel.size();
  if (x.size() != rank + 2 || more.size() != rank || outputs.size() != 1) return;
  SymbolicShape lead{x[0]};
  for (size_t d = 0; d < rank; ++d) {
    int64_t slack = 0;
    if (!w.slack(d, &slack) || more[d] < 0 || more[d] >= w.stride[d]) return;
    const int64_t stride = w.stride[d], extra = more[d] + 1 - slack;
    const auto compute = [&](int64_t size) { return stride * (size - 1) + extra; };
    const std::string name = stride == 1 && extra == 1
                                 ? x[d + 1].name
                                 : std::to_string(stride) + "*(" + x[d + 1].name + "-1)+" + std::to_string(extra);
    if (x[d + 1].known() && compute(x[d + 1].value) < 1) return;
    lead.push_back(derived(x[d + 1], compute, name));
  }
  layer_outputs(op, inference, lead, Size{outputs[0], ""});
}

void infer_dense(const Operator& op, Inference& inference) {
  SymbolicShape x, weight;
  if (!inference.input(0, &x) || !inference.input(1, &weight)) return;
  x.pop_back();
  layer_outputs(op, inference, x, weight[0]);
}

void infer_matmul(const Operator& op, Inference& inference) {
  SymbolicShape a, b;
  if (!inference.input(0, &a) || !inference.input(1, &b) || a.size() < 2 || b.size() != a.size()) return;
  a.pop_back();
  layer_outputs(op, inference, a, b[b.size() - 2]);
}

void infer_maxpool(const Operator&, Inference& inference) {
  SymbolicShape x, lead;
  WindowSizes w;
  if (!inference.input(0, &x) || !w.read(inference) || !windows(x, w, &lead)) return;
  lead.push_back(x.back());
  inference.output(0, lead);
}

}  // namespace bnn::ort_ops
