#include "ort/node.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace bnn::ort_ops {

namespace {

// Throws what went wrong, with ONNX Runtime's reason, unless the status is null.
void succeed(const ort::Api& api, ort::Status* status, const std::string& what) {
  if (status == nullptr) return;
  const std::string reason = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw Failure{BNN_INVALID_ARGUMENT, what + ": " + reason};
}

void attribute(const ort::Api& api, ort::Status* status, const char* name, const char* expected) {
  if (status == nullptr) return;
  succeed(api, status, std::string("attribute '") + name + "' is missing or not " + expected);
}

Tensor read(const ort::Api& api, const char* name, const ort::Value* value) {
  if (value == nullptr) throw Failure{BNN_INVALID_ARGUMENT, std::string("input '") + name + "' is missing"};
  ort::TensorTypeAndShapeInfo* raw = nullptr;
  succeed(api, api.GetTensorTypeAndShape(value, &raw), "an input is no tensor");
  const std::unique_ptr<ort::TensorTypeAndShapeInfo, void (*)(ort::TensorTypeAndShapeInfo*)> info(
      raw, api.ReleaseTensorTypeAndShapeInfo);
  size_t rank = 0;
  succeed(api, api.GetDimensionsCount(raw, &rank), "the rank of an input cannot be read");
  Tensor tensor{name, Shape(rank), nullptr};
  succeed(api, api.GetDimensions(raw, tensor.shape.data(), rank), "the shape of an input cannot be read");
  void* data = nullptr;
  succeed(api, api.GetTensorMutableData(value, &data), "the data of an input cannot be read");
  tensor.data = data;
  return tensor;
}

}  // namespace

std::string text(const Shape& shape) {
  std::string result = "[";
  for (size_t i = 0; i < shape.size(); ++i) result += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return result + "]";
}

int64_t elements(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count = times(count, size);
  return count;
}

int64_t packed_bytes(int64_t channels) { return 4 * (channels / 32 + (channels % 32 != 0)); }

int64_t Info::integer(const char* name) const {
  int64_t value = 0;
  attribute(api_, api_.KernelInfoGetAttribute_int64(info_, name, &value), name, "an integer");
  return value;
}

float Info::real(const char* name) const {
  float value = 0;
  attribute(api_, api_.KernelInfoGetAttribute_float(info_, name, &value), name, "a float");
  return value;
}

Shape Info::integers(const char* name) const {
  size_t count = 0;
  attribute(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &count), name, "a list of integers");
  Shape values(count);
  if (count != 0) {
    attribute(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, values.data(), &count), name,
              "a list of integers");
  }
  return values;
}

int64_t Info::only(const char* name) const {
  const Shape values = integers(name);
  require(values.size() == 1, [&] {
    return std::string("attribute '") + name + "' has " + std::to_string(values.size()) +
           " entries, but one was expected";
  });
  return values[0];
}

bool Info::constant(size_t index, Tensor* tensor) const {
  int is_constant = 0;
  const ort::Value* value = nullptr;
  if (ort::Status* status = api_.KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value)) {
    api_.ReleaseStatus(status);
    return false;
  }
  if (is_constant == 0 || value == nullptr) return false;
  *tensor = read(api_, op_.inputs[index].name, value);
  return true;
}

Call::Call(const Operator& op, const ort::Api& api, ort::KernelContext* context)
    : op_(op), api_(api), context_(context) {
  // How many threads the session has is not to be had: the machine's is an upper bound for how finely to cut.
  static const auto threads = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
  pool_ = {spread, this, threads};
}

Tensor Call::input(size_t index) const {
  const ort::Value* value = nullptr;
  succeed(api_, api_.KernelContext_GetInput(context_, index, &value), "an input cannot be read");
  return read(api_, op_.inputs[index].name, value);
}

const uint32_t* Call::words(const Tensor& tensor) {
  if (reinterpret_cast<uintptr_t>(tensor.data) % alignof(uint32_t) == 0) {
    return static_cast<const uint32_t*>(tensor.data);
  }
  copies_.emplace_back(static_cast<size_t>(tensor.count() / 4));
  std::memcpy(copies_.back().data(), tensor.data, 4 * copies_.back().size());
  return copies_.back().data();
}

void* Call::output(size_t index, const Shape& shape) {
  const char* name = op_.outputs[index].name;
  times(elements(shape), 8);
  ort::Value* value = nullptr;
  if (ort::Status* status = api_.KernelContext_GetOutput(context_, index, shape.data(), shape.size(), &value)) {
    succeed(api_, status, std::string("output '") + name + "' of shape " + text(shape) + " cannot be made");
  }
  void* data = nullptr;
  if (value != nullptr) succeed(api_, api_.GetTensorMutableData(value, &data), "an output cannot be written");
  return data;
}

void Call::spread(void* self, size_t count, void (*task)(void* context, size_t i), void* context) {
  const Call& call = *static_cast<Call*>(self);
  ort::Status* status = nullptr;
  if (count > 1) {
    status = call.api_.KernelContext_ParallelFor(call.context_, task, count, 0, context);
    if (status == nullptr) return;
    call.api_.ReleaseStatus(status);  // nothing has been begun
  }
  for (size_t i = 0; i < count; ++i) task(context, i);
}

}  // namespace bnn::ort_ops
