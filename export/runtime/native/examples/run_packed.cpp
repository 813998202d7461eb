// Loads a packed model with ONNX Runtime's C interface and runs it on the kernels.
//
//   run_packed MODEL KERNELS SIZE... < INPUT > OUTPUT
//
// MODEL is an ONNX file with one float input, KERNELS the library (libbnnapps.so, or "none" to run the functions in the
// file), SIZE... the sizes of the input, and INPUT its elements as float32. OUTPUT is text: a line per output with its
// name, its sizes and its elements. Build it against libonnxruntime alone:
//
//   c++ -std=c++17 -I include examples/run_packed.cpp path/to/libonnxruntime.so -o run_packed
//
// or with CMake, by any preset and -D BNN_ONNXRUNTIME=path/to/libonnxruntime.so.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "ort_abi.h"

extern "C" const ort::ApiBase* OrtGetApiBase();

namespace {

const ort::Api* api = nullptr;

[[noreturn]] void stop(const std::string& message) {
  std::fprintf(stderr, "run_packed: %s\n", message.c_str());
  std::exit(1);
}

void check(ort::Status* status) {
  if (status != nullptr) stop(api->GetErrorMessage(status));
}

// Calls a function that makes an object through its last argument, and sees to its release.
template <typename Object, typename Make>
std::unique_ptr<Object, void (*)(Object*)> made(void (*release)(Object*), Make make) {
  Object* object = nullptr;
  check(make(&object));
  return {object, release};
}

std::vector<float> read_input(size_t count) {
  std::vector<float> values(count);
  if (std::fread(values.data(), sizeof(float), count, stdin) != count) {
    stop("the input has fewer than " + std::to_string(count) + " elements");
  }
  return values;
}

void print(const char* name, const ort::Value* value) {
  const auto info = made<ort::TensorTypeAndShapeInfo>(api->ReleaseTensorTypeAndShapeInfo, [&](auto** out) {
    return api->GetTensorTypeAndShape(value, out);
  });
  size_t rank = 0, count = 1;
  int type = 0;
  check(api->GetDimensionsCount(info.get(), &rank));
  std::vector<int64_t> sizes(rank);
  check(api->GetDimensions(info.get(), sizes.data(), rank));
  check(api->GetTensorElementType(info.get(), &type));
  void* data = nullptr;
  check(api->GetTensorMutableData(value, &data));
  std::printf("%s [", name);
  for (size_t i = 0; i < rank; ++i) {
    std::printf(i == 0 ? "%lld" : " %lld", static_cast<long long>(sizes[i]));
    count *= static_cast<size_t>(sizes[i]);
  }
  std::printf("]");
  for (size_t i = 0; i < count; ++i) {
    if (type == ort::kFloat) std::printf(" %.9g", static_cast<double>(static_cast<float*>(data)[i]));
    else if (type == ort::kInt32) std::printf(" %d", static_cast<int32_t*>(data)[i]);
    else if (type == ort::kUint8) std::printf(" %d", static_cast<uint8_t*>(data)[i]);
    else stop(std::string("output '") + name + "' is neither float, int32 nor uint8");
  }
  std::printf("\n");
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) stop("expected MODEL KERNELS SIZE...");
  const ort::ApiBase* base = OrtGetApiBase();
  api = base->GetApi(ort::kApiVersion);
  if (api == nullptr) stop(std::string("ONNX Runtime ") + base->GetVersionString() + " is older than 1.17");

  const auto env = made<ort::Env>(api->ReleaseEnv, [](auto** out) { return api->CreateEnv(3, "run_packed", out); });
  const auto options = made<ort::SessionOptions>(api->ReleaseSessionOptions, api->CreateSessionOptions);
  if (std::string(arguments[2]) != "none") check(api->RegisterCustomOpsLibrary_V2(options.get(), arguments[2]));
  const auto session = made<ort::Session>(api->ReleaseSession, [&](auto** out) {
    return api->CreateSession(env.get(), arguments[1], options.get(), out);
  });

  std::vector<int64_t> sizes;
  size_t elements = 1;
  for (int i = 3; i < count; ++i) {
    sizes.push_back(std::atoll(arguments[i]));
    if (sizes.back() < 1) stop(std::string("'") + arguments[i] + "' is no size");
    elements *= static_cast<size_t>(sizes.back());
  }
  std::vector<float> values = read_input(elements);
  const auto memory =
      made<ort::MemoryInfo>(api->ReleaseMemoryInfo, [](auto** out) { return api->CreateCpuMemoryInfo(0, 0, out); });
  const auto input = made<ort::Value>(api->ReleaseValue, [&](auto** out) {
    return api->CreateTensorWithDataAsOrtValue(memory.get(), values.data(), values.size() * sizeof(float),
                                               sizes.data(), sizes.size(), ort::kFloat, out);
  });

  ort::Allocator* allocator = nullptr;
  size_t inputs = 0, outputs = 0;
  check(api->GetAllocatorWithDefaultOptions(&allocator));
  check(api->SessionGetInputCount(session.get(), &inputs));
  check(api->SessionGetOutputCount(session.get(), &outputs));
  if (inputs != 1) stop("the model has " + std::to_string(inputs) + " inputs, not one");
  char* input_name = nullptr;
  std::vector<char*> names(outputs);
  check(api->SessionGetInputName(session.get(), 0, allocator, &input_name));
  for (size_t i = 0; i < outputs; ++i) check(api->SessionGetOutputName(session.get(), i, allocator, &names[i]));

  const ort::Value* given = input.get();
  std::vector<ort::Value*> results(outputs, nullptr);
  check(api->Run(session.get(), nullptr, &input_name, &given, 1, names.data(), outputs, results.data()));
  for (size_t i = 0; i < outputs; ++i) {
    print(names[i], results[i]);
    api->ReleaseValue(results[i]);
    check(api->AllocatorFree(allocator, names[i]));
  }
  check(api->AllocatorFree(allocator, input_name));
  return 0;
}
