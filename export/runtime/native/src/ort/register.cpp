// What ONNX Runtime calls: RegisterCustomOps, and the functions of every operator.
#include <map>
#include <mutex>
#include <string>

#include "ort/inference.h"
#include "ort/operators.h"

#if defined(_WIN32)
#define BNN_ENTRY extern "C" __declspec(dllexport)
#else
#define BNN_ENTRY extern "C" __attribute__((visibility("default")))
#endif

namespace bnn::ort_ops {

namespace {

// What ONNX Runtime holds as an operator, and its specification behind it.
struct Registered : ort::CustomOp {
  const Operator* specification;
  const ort::Api* api;  // shape inference is handed none
};

const Operator& of(const ort::CustomOp* op) { return *static_cast<const Registered*>(op)->specification; }

// What ONNX Runtime holds as a kernel.
struct Node {
  const Operator& op;
  const ort::Api& api;
  std::unique_ptr<Kernel> kernel;
};

// Runs the body; no exception leaves it, but a status that names the operator.
template <typename Body>
ort::Status* guarded(const Operator& op, const ort::Api& api, Body body) noexcept {
  const auto status = [&](int code, const char* message) noexcept -> ort::Status* {
    try {
      return api.CreateStatus(code, (std::string(domain) + "." + op.name + ": " + message).c_str());
    } catch (...) {
      return api.CreateStatus(ort::kFail, "out of memory");
    }
  };
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return status(failure.status == BNN_INVALID_ARGUMENT ? ort::kInvalidArgument : ort::kFail,
                  failure.message.c_str());
  } catch (const std::bad_alloc&) {
    return status(ort::kFail, "out of memory");
  } catch (const std::exception& problem) {
    return status(ort::kFail, problem.what());
  } catch (...) {
    return status(ort::kFail, "unknown failure");
  }
}

ort::Status* create(const ort::CustomOp* op, const ort::Api* api, const ort::KernelInfo* info, void** kernel) {
  *kernel = nullptr;
  return guarded(of(op), *api, [&] {
    auto node = std::make_unique<Node>(Node{of(op), *api, of(op).make(Info(of(op), *api, info))});
    *kernel = node.release();
  });
}

ort::Status* compute(void* kernel, ort::KernelContext* context) {
  const Node& node = *static_cast<const Node*>(kernel);
  return guarded(node.op, node.api, [&] {
    Call call(node.op, node.api, context);
    node.kernel->run(call);
  });
}

ort::Status* infer(const ort::CustomOp* op, ort::ShapeInferContext* context) {
  const Registered& self = *static_cast<const Registered*>(op);
  return guarded(of(op), *self.api, [&] {
    Inference inference(of(op), *self.api, context);
    of(op).infer(of(op), inference);
  });
}

void destroy(void* kernel) { delete static_cast<Node*>(kernel); }

Registered registered(const Operator& op, const ort::Api& api) {
  Registered result{};
  result.specification = &op;
  result.api = &api;
  result.version = ort::kApiVersion;
  result.GetName = [](const ort::CustomOp* self) { return of(self).name; };
  result.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };  // the CPU's
  result.GetInputType = [](const ort::CustomOp* self, size_t i) -> int { return of(self).inputs[i].type; };
  result.GetInputTypeCount = [](const ort::CustomOp* self) { return of(self).inputs.size(); };
  result.GetOutputType = [](const ort::CustomOp* self, size_t i) -> int { return of(self).outputs[i].type; };
  result.GetOutputTypeCount = [](const ort::CustomOp* self) { return of(self).outputs.size(); };
  result.KernelDestroy = destroy;
  result.GetInputCharacteristic = [](const ort::CustomOp*, size_t) { return 0; };  // required, one tensor
  result.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return 0; };
  result.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return 0; };
  result.GetVariadicInputMinArity = [](const ort::CustomOp*) { return 1; };
  result.GetVariadicInputHomogeneity = [](const ort::CustomOp*) { return 1; };
  result.GetVariadicOutputMinArity = [](const ort::CustomOp*) { return 1; };
  result.GetVariadicOutputHomogeneity = [](const ort::CustomOp*) { return 1; };
  result.CreateKernelV2 = create;
  result.KernelComputeV2 = compute;
  result.InferOutputShapeFn = infer;
  result.GetStartVersion = [](const ort::CustomOp*) { return domain_version; };
  result.GetEndVersion = [](const ort::CustomOp*) { return domain_version; };
  return result;
}

// The domain with all operators. Sessions use it until the process ends, so it is made once and kept; a process that
// has loaded two copies of ONNX Runtime has one for each.
struct Domain {
  std::vector<Registered> operators;
  ort::CustomOpDomain* handle = nullptr;
};

ort::Status* domain_of(const ort::Api& api, ort::CustomOpDomain** result) {
  static std::mutex mutex;
  static auto& known = *new std::map<const ort::Api*, Domain>;  // outlives every session
  const std::lock_guard<std::mutex> lock(mutex);
  Domain& made = known[&api];
  if (made.handle == nullptr) {
    made.operators.clear();
    for (const Operator& op : operators()) made.operators.push_back(registered(op, api));
    ort::CustomOpDomain* fresh = nullptr;
    if (ort::Status* status = api.CreateCustomOpDomain(domain, &fresh)) return status;
    for (const Registered& op : made.operators) {
      if (ort::Status* status = api.CustomOpDomain_Add(fresh, &op)) return status;
    }
    made.handle = fresh;
  }
  *result = made.handle;
  return nullptr;
}

}  // namespace

}  // namespace bnn::ort_ops

BNN_ENTRY ort::Status* RegisterCustomOps(ort::SessionOptions* options, const ort::ApiBase* base) {
  const ort::Api* api = base->GetApi(ort::kApiVersion);
  if (api == nullptr) {
    const ort::Api* oldest = base->GetApi(1);  // has CreateStatus, as every release has
    return oldest->CreateStatus(
        ort::kFail, (std::string("the kernels of bnnapps need ONNX Runtime 1.") + std::to_string(ort::kApiVersion) +
                     " or newer, but this is " + base->GetVersionString())
                        .c_str());
  }
  try {
    ort::CustomOpDomain* domain = nullptr;
    if (ort::Status* status = bnn::ort_ops::domain_of(*api, &domain)) return status;
    return api->AddCustomOpDomain(options, domain);
  } catch (...) {
    return api->CreateStatus(ort::kFail, "the kernels of bnnapps cannot be registered: out of memory");
  }
}
