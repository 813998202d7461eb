#include "mock_runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" ort::Status* RegisterCustomOps(ort::SessionOptions* options, const ort::ApiBase* base);

namespace ort {

struct Status {
  std::string message;
};
struct Value {
  mock::Tensor* tensor;
};
struct TensorTypeAndShapeInfo {
  mock::Shape shape;
  std::vector<std::string> names;
};
struct KernelInfo {
  mock::Node* node;
  std::vector<Value> values;
};
struct KernelContext {
  mock::Node* node;
  std::vector<Value> inputs, outputs;
};
struct OpAttr {
  const mock::Shape* list;
  const int64_t* integer;
};
struct ShapeInferContext {
  mock::Node* node;
  std::vector<std::unique_ptr<TensorTypeAndShapeInfo>> infos;
  std::vector<std::unique_ptr<OpAttr>> attributes;
};
struct CustomOpDomain {
  std::vector<const CustomOp*> operators;
};
struct SessionOptions {
  CustomOpDomain* domain;
};

}  // namespace ort

namespace mock {

namespace {

constexpr int64_t most_elements = int64_t{1} << 20;

ort::Status* failed(const char* message) { return new ort::Status{message}; }

std::string taken(ort::Status* status) {
  if (status == nullptr) return "";
  const std::string message = status->message;
  delete status;
  if (message.empty()) {
    std::fputs("a status without a message\n", stderr);
    std::abort();
  }
  return message;
}

template <typename Map, typename Value>
ort::Status* look_up(const Map& map, const char* name, Value* out) {
  const auto found = map.find(name);
  if (found == map.end()) return failed("no such attribute");
  *out = found->second;
  return nullptr;
}

ort::Status* get_list(const ort::KernelInfo* info, const char* name, int64_t* out, size_t* count) {
  const auto found = info->node->lists.find(name);
  if (found == info->node->lists.end()) return failed("no such attribute");
  const Shape& values = found->second;
  if (out != nullptr && *count < values.size()) return failed("too little room");
  *count = values.size();
  if (out != nullptr) std::copy(values.begin(), values.end(), out);
  return nullptr;
}

ort::Status* get_constant(const ort::KernelInfo* info, size_t index, int* is_constant, const ort::Value** out) {
  if (index >= info->values.size()) return failed("no such input");
  *is_constant = info->node->constant[index];
  *out = *is_constant != 0 ? &info->values[index] : nullptr;
  return nullptr;
}

ort::Status* get_output(ort::KernelContext* context, size_t index, const int64_t* sizes, size_t count,
                        ort::Value** out) {
  Tensor& tensor = context->node->outputs.at(index);
  tensor = Tensor{};
  tensor.type = context->node->op->GetOutputType(context->node->op, index);
  tensor.shape.assign(sizes, sizes + count);
  if (!tensor.allocate(false)) return failed("the output is too large");
  *out = &context->outputs.at(index);
  return nullptr;
}

ort::Status* input_shape(const ort::ShapeInferContext* constant, size_t index, ort::TensorTypeAndShapeInfo** out) {
  auto* context = const_cast<ort::ShapeInferContext*>(constant);
  const Node& node = *context->node;
  if (index >= node.inputs.size()) return failed("no such input");
  auto info = std::make_unique<ort::TensorTypeAndShapeInfo>();
  info->shape = node.inputs[index].shape;
  info->names.resize(info->shape.size());
  if (node.symbolic[index]) {
    for (size_t i = 0; i + 1 < info->shape.size(); ++i) {
      info->names[i] = "size" + std::to_string(i);
      info->shape[i] = -1;
    }
  }
  *out = info.get();
  context->infos.push_back(std::move(info));
  return nullptr;
}

ort::Status* shape_attribute(const ort::ShapeInferContext* constant, const char* name, const ort::OpAttr** out) {
  auto* context = const_cast<ort::ShapeInferContext*>(constant);
  const auto list = context->node->lists.find(name);
  const auto integer = context->node->integers.find(name);
  auto attribute = std::make_unique<ort::OpAttr>();
  attribute->list = list == context->node->lists.end() ? nullptr : &list->second;
  attribute->integer = integer == context->node->integers.end() ? nullptr : &integer->second;
  if (attribute->list == nullptr && attribute->integer == nullptr) return failed("no such attribute");
  *out = attribute.get();
  context->attributes.push_back(std::move(attribute));
  return nullptr;
}

ort::Status* read_attribute(const ort::OpAttr* attribute, int type, void* data, size_t bytes, size_t* out) {
  const int64_t* values = attribute->integer;
  size_t count = 1;
  if (type == ort::kAttrInts) {
    if (attribute->list == nullptr) return failed("not a list");
    values = attribute->list->data();
    count = attribute->list->size();
  }
  if (values == nullptr && count != 0) return failed("not an integer");
  *out = count * sizeof(int64_t);
  if (*out > bytes) return failed("too little room");
  if (count != 0) std::memcpy(data, values, *out);
  return nullptr;
}

ort::Status* set_shape(const ort::ShapeInferContext* context, size_t index, const ort::TensorTypeAndShapeInfo* info) {
  if (info->names.size() != info->shape.size()) return failed("sizes and names differ in number");
  Shape shape = info->shape;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (!info->names[i].empty()) shape[i] = -1;
    if (info->names[i].empty() && shape[i] < 0) std::abort();
  }
  context->node->inferred[index] = shape;
  return nullptr;
}

ort::Status* parallel_for(const ort::KernelContext* context, void (*task)(void*, size_t), size_t count, size_t,
                          void* user) {
  for (size_t i = 0; i < count; ++i) task(user, context->node->backwards ? count - 1 - i : i);
  return nullptr;
}

ort::Api make_api() {
  ort::Api api{};
  api.CreateStatus = [](int, const char* message) { return failed(message); };
  api.GetErrorMessage = [](const ort::Status* status) { return status->message.c_str(); };
  api.ReleaseStatus = [](ort::Status* status) { delete status; };
  api.CreateCustomOpDomain = [](const char*, ort::CustomOpDomain** out) -> ort::Status* {
    static ort::CustomOpDomain domain;
    *out = &domain;
    return nullptr;
  };
  api.CustomOpDomain_Add = [](ort::CustomOpDomain* domain, const ort::CustomOp* op) -> ort::Status* {
    domain->operators.push_back(op);
    return nullptr;
  };
  api.AddCustomOpDomain = [](ort::SessionOptions* options, ort::CustomOpDomain* domain) -> ort::Status* {
    options->domain = domain;
    return nullptr;
  };
  api.GetTensorMutableData = [](const ort::Value* value, void** out) -> ort::Status* {
    *out = value->tensor->data();
    return nullptr;
  };
  api.GetTensorTypeAndShape = [](const ort::Value* value, ort::TensorTypeAndShapeInfo** out) -> ort::Status* {
    *out = new ort::TensorTypeAndShapeInfo{value->tensor->shape, {}};
    return nullptr;
  };
  api.CreateTensorTypeAndShapeInfo = [](ort::TensorTypeAndShapeInfo** out) -> ort::Status* {
    *out = new ort::TensorTypeAndShapeInfo{};
    return nullptr;
  };
  api.ReleaseTensorTypeAndShapeInfo = [](ort::TensorTypeAndShapeInfo* info) { delete info; };
  api.SetTensorElementType = [](ort::TensorTypeAndShapeInfo*, int) -> ort::Status* { return nullptr; };
  api.SetDimensions = [](ort::TensorTypeAndShapeInfo* info, const int64_t* sizes, size_t count) -> ort::Status* {
    info->shape.assign(sizes, sizes + count);
    return nullptr;
  };
  api.SetSymbolicDimensions = [](ort::TensorTypeAndShapeInfo* info, const char** names, size_t count) -> ort::Status* {
    info->names.assign(names, names + count);
    return nullptr;
  };
  api.GetDimensionsCount = [](const ort::TensorTypeAndShapeInfo* info, size_t* out) -> ort::Status* {
    *out = info->shape.size();
    return nullptr;
  };
  api.GetDimensions = [](const ort::TensorTypeAndShapeInfo* info, int64_t* sizes, size_t count) -> ort::Status* {
    std::copy_n(info->shape.begin(), count, sizes);
    return nullptr;
  };
  api.GetSymbolicDimensions = [](const ort::TensorTypeAndShapeInfo* info, const char** names,
                                 size_t count) -> ort::Status* {
    for (size_t i = 0; i < count; ++i) names[i] = info->names[i].c_str();
    return nullptr;
  };
  api.KernelInfoGetAttribute_float = [](const ort::KernelInfo* info, const char* name, float* out) {
    return look_up(info->node->reals, name, out);
  };
  api.KernelInfoGetAttribute_int64 = [](const ort::KernelInfo* info, const char* name, int64_t* out) {
    return look_up(info->node->integers, name, out);
  };
  api.KernelInfoGetAttributeArray_int64 = get_list;
  api.KernelInfoGetConstantInput_tensor = get_constant;
  api.KernelContext_GetInput = [](const ort::KernelContext* context, size_t index,
                                  const ort::Value** out) -> ort::Status* {
    *out = &context->inputs.at(index);
    return nullptr;
  };
  api.KernelContext_GetOutput = get_output;
  api.KernelContext_ParallelFor = parallel_for;
  api.ShapeInferContext_GetInputTypeShape = input_shape;
  api.ShapeInferContext_GetAttribute = shape_attribute;
  api.ShapeInferContext_SetOutputTypeShape = set_shape;
  api.ReadOpAttr = read_attribute;
  return api;
}

const ort::Api& api() {
  static const ort::Api table = make_api();
  return table;
}

}  // namespace

int64_t Tensor::count() const {
  int64_t result = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(result, size, &result)) return -1;
  }
  return result;
}

bool Tensor::allocate(bool zero) {
  const int64_t elements = count();
  if (elements < 0 || elements > most_elements) return false;
  const size_t bytes = static_cast<size_t>(elements) * (type == ort::kUint8 ? 1 : 4) + offset;
  memory.assign(bytes, zero ? 0 : 0xa5);
  memory.shrink_to_fit();
  return true;
}

std::string Node::infer() {
  ort::ShapeInferContext context{this, {}, {}};
  inferred.clear();
  return taken(op->InferOutputShapeFn(op, &context));
}

std::string Node::create(void** kernel) {
  ort::KernelInfo info{this, {}};
  for (Tensor& tensor : inputs) info.values.push_back({&tensor});
  return taken(op->CreateKernelV2(op, &api(), &info, kernel));
}

std::string Node::compute(void* kernel) {
  ort::KernelContext context{this, {}, {}};
  outputs.assign(op->GetOutputTypeCount(op), Tensor{});
  for (Tensor& tensor : inputs) context.inputs.push_back({&tensor});
  for (Tensor& tensor : outputs) context.outputs.push_back({&tensor});
  return taken(op->KernelComputeV2(kernel, &context));
}

const std::vector<const ort::CustomOp*>& operators() {
  static const ort::SessionOptions options = [] {
    static const ort::ApiBase base{[](uint32_t) { return &api(); }, [] { return "the stand-in"; }};
    ort::SessionOptions made{};
    if (!taken(RegisterCustomOps(&made, &base)).empty()) std::abort();
    return made;
  }();
  return options.domain->operators;
}

}  // namespace mock
