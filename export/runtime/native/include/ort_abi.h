// The part of ONNX Runtime's C interface that a library of operators calls, and what a program needs to load and run a
// model, declared by its place in memory.
//
// ONNX Runtime hands out a table of functions (OrtApi) that only ever grows at its end, and reads operators from a
// struct (OrtCustomOp) that says itself which version it follows. So the places below hold for every release since the
// one that brought the newest of them, 1.17, and no header of ONNX Runtime is needed to build. Where a function's name
// and its types are ONNX Runtime's, they are kept.
#ifndef BNN_ORT_ABI_H
#define BNN_ORT_ABI_H

#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t kApiVersion = 17;  // ONNX Runtime 1.17: InferOutputShapeFn and KernelContext_ParallelFor

struct Status;
struct Env;
struct Session;
struct RunOptions;
struct MemoryInfo;
struct Allocator;
struct SessionOptions;
struct CustomOpDomain;
struct Value;
struct TensorTypeAndShapeInfo;
struct KernelInfo;
struct KernelContext;
struct ShapeInferContext;
struct OpAttr;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int { kFloat = 1, kUint8 = 2, kInt32 = 6 };
enum OpAttrType : int { kAttrInt = 1, kAttrInts = 2 };

// The table of functions. A null Status is success; any other is the caller's to release.
struct Api {
  Status* (*CreateStatus)(int code, const char* message);
  void* unused_1[1];
  const char* (*GetErrorMessage)(const Status* status);
  Status* (*CreateEnv)(int least_severity, const char* name, Env** out);
  void* unused_4[3];
  Status* (*CreateSession)(const Env* env, const char* path, const SessionOptions* options, Session** out);
  void* unused_8[1];
  Status* (*Run)(Session* session, const RunOptions* options, const char* const* input_names,
                 const Value* const* inputs, size_t input_count, const char* const* output_names, size_t output_count,
                 Value** outputs);
  Status* (*CreateSessionOptions)(SessionOptions** out);
  void* unused_11[13];
  Status* (*SetIntraOpNumThreads)(SessionOptions* options, int threads);
  void* unused_25[1];
  Status* (*CreateCustomOpDomain)(const char* domain, CustomOpDomain** out);
  Status* (*CustomOpDomain_Add)(CustomOpDomain* domain, const struct CustomOp* op);
  Status* (*AddCustomOpDomain)(SessionOptions* options, CustomOpDomain* domain);
  void* unused_29[1];
  Status* (*SessionGetInputCount)(const Session* session, size_t* out);
  Status* (*SessionGetOutputCount)(const Session* session, size_t* out);
  void* unused_32[4];
  Status* (*SessionGetInputName)(const Session* session, size_t index, Allocator* allocator, char** out);
  Status* (*SessionGetOutputName)(const Session* session, size_t index, Allocator* allocator, char** out);
  void* unused_38[11];
  Status* (*CreateTensorWithDataAsOrtValue)(const MemoryInfo* info, void* data, size_t bytes, const int64_t* sizes,
                                            size_t count, int type, Value** out);
  void* unused_50[1];
  Status* (*GetTensorMutableData)(const Value* value, void** out);
  void* unused_52[5];
  Status* (*CreateTensorTypeAndShapeInfo)(TensorTypeAndShapeInfo** out);
  Status* (*SetTensorElementType)(TensorTypeAndShapeInfo* info, int type);
  Status* (*SetDimensions)(TensorTypeAndShapeInfo* info, const int64_t* sizes, size_t count);
  Status* (*GetTensorElementType)(const TensorTypeAndShapeInfo* info, int* out);
  Status* (*GetDimensionsCount)(const TensorTypeAndShapeInfo* info, size_t* out);
  Status* (*GetDimensions)(const TensorTypeAndShapeInfo* info, int64_t* sizes, size_t count);
  Status* (*GetSymbolicDimensions)(const TensorTypeAndShapeInfo* info, const char** names, size_t count);
  void* unused_64[1];
  Status* (*GetTensorTypeAndShape)(const Value* value, TensorTypeAndShapeInfo** out);
  void* unused_66[3];
  Status* (*CreateCpuMemoryInfo)(int allocator_type, int memory_type, MemoryInfo** out);
  void* unused_70[6];
  Status* (*AllocatorFree)(Allocator* allocator, void* memory);
  void* unused_77[1];
  Status* (*GetAllocatorWithDefaultOptions)(Allocator** out);
  void* unused_79[6];
  Status* (*KernelInfoGetAttribute_float)(const KernelInfo* info, const char* name, float* out);
  Status* (*KernelInfoGetAttribute_int64)(const KernelInfo* info, const char* name, int64_t* out);
  void* unused_87[3];
  Status* (*KernelContext_GetInput)(const KernelContext* context, size_t index, const Value** out);
  Status* (*KernelContext_GetOutput)(KernelContext* context, size_t index, const int64_t* sizes, size_t count,
                                     Value** out);
  void (*ReleaseEnv)(Env* env);
  void (*ReleaseStatus)(Status* status);
  void (*ReleaseMemoryInfo)(MemoryInfo* info);
  void (*ReleaseSession)(Session* session);
  void (*ReleaseValue)(Value* value);
  void* unused_97[2];
  void (*ReleaseTensorTypeAndShapeInfo)(TensorTypeAndShapeInfo* info);
  void (*ReleaseSessionOptions)(SessionOptions* options);
  void* unused_101[62];
  Status* (*KernelInfoGetAttributeArray_int64)(const KernelInfo* info, const char* name, int64_t* out, size_t* count);
  void* unused_164[64];
  Status* (*RegisterCustomOpsLibrary_V2)(SessionOptions* options, const char* path);
  void* unused_229[20];
  Status* (*KernelInfoGetConstantInput_tensor)(const KernelInfo* info, size_t index, int* is_constant,
                                               const Value** out);
  void* unused_250[18];
  Status* (*ShapeInferContext_GetInputTypeShape)(const ShapeInferContext* context, size_t index,
                                                 TensorTypeAndShapeInfo** out);
  Status* (*ShapeInferContext_GetAttribute)(const ShapeInferContext* context, const char* name, const OpAttr** out);
  Status* (*ShapeInferContext_SetOutputTypeShape)(const ShapeInferContext* context, size_t index,
                                                  const TensorTypeAndShapeInfo* info);
  Status* (*SetSymbolicDimensions)(TensorTypeAndShapeInfo* info, const char** names, size_t count);
  Status* (*ReadOpAttr)(const OpAttr* attribute, int type, void* data, size_t bytes, size_t* out);
  void* unused_273[1];
  Status* (*KernelContext_ParallelFor)(const KernelContext* context, void (*task)(void* user, size_t index),
                                       size_t count, size_t batches, void* user);
};

#define BNN_ORT_PLACE(function, slot) static_assert(offsetof(Api, function) == (slot) * sizeof(void*), #function)
BNN_ORT_PLACE(GetErrorMessage, 2);
BNN_ORT_PLACE(CreateSession, 7);
BNN_ORT_PLACE(CreateSessionOptions, 10);
BNN_ORT_PLACE(SetIntraOpNumThreads, 24);
BNN_ORT_PLACE(CreateCustomOpDomain, 26);
BNN_ORT_PLACE(SessionGetOutputCount, 31);
BNN_ORT_PLACE(SessionGetOutputName, 37);
BNN_ORT_PLACE(CreateTensorWithDataAsOrtValue, 49);
BNN_ORT_PLACE(GetTensorMutableData, 51);
BNN_ORT_PLACE(CreateTensorTypeAndShapeInfo, 57);
BNN_ORT_PLACE(GetDimensionsCount, 61);
BNN_ORT_PLACE(GetTensorTypeAndShape, 65);
BNN_ORT_PLACE(CreateCpuMemoryInfo, 69);
BNN_ORT_PLACE(AllocatorFree, 76);
BNN_ORT_PLACE(GetAllocatorWithDefaultOptions, 78);
BNN_ORT_PLACE(KernelInfoGetAttribute_float, 85);
BNN_ORT_PLACE(KernelContext_GetInput, 90);
BNN_ORT_PLACE(ReleaseStatus, 93);
BNN_ORT_PLACE(ReleaseValue, 96);
BNN_ORT_PLACE(ReleaseTensorTypeAndShapeInfo, 99);
BNN_ORT_PLACE(KernelInfoGetAttributeArray_int64, 163);
BNN_ORT_PLACE(RegisterCustomOpsLibrary_V2, 228);
BNN_ORT_PLACE(KernelInfoGetConstantInput_tensor, 249);
BNN_ORT_PLACE(ShapeInferContext_GetInputTypeShape, 268);
BNN_ORT_PLACE(KernelContext_ParallelFor, 274);
#undef BNN_ORT_PLACE

struct ApiBase {
  const Api* (*GetApi)(uint32_t version);  // null if this runtime is older than `version`
  const char* (*GetVersionString)();
};

// An operator as ONNX Runtime reads it. CreateKernel and KernelCompute stay null: their V2 return a Status.
struct CustomOp {
  uint32_t version;
  void* (*CreateKernel)(const CustomOp* op, const Api* api, const KernelInfo* info);
  const char* (*GetName)(const CustomOp* op);
  const char* (*GetExecutionProviderType)(const CustomOp* op);
  int (*GetInputType)(const CustomOp* op, size_t index);
  size_t (*GetInputTypeCount)(const CustomOp* op);
  int (*GetOutputType)(const CustomOp* op, size_t index);
  size_t (*GetOutputTypeCount)(const CustomOp* op);
  void (*KernelCompute)(void* kernel, KernelContext* context);
  void (*KernelDestroy)(void* kernel);
  int (*GetInputCharacteristic)(const CustomOp* op, size_t index);
  int (*GetOutputCharacteristic)(const CustomOp* op, size_t index);
  int (*GetInputMemoryType)(const CustomOp* op, size_t index);
  int (*GetVariadicInputMinArity)(const CustomOp* op);
  int (*GetVariadicInputHomogeneity)(const CustomOp* op);
  int (*GetVariadicOutputMinArity)(const CustomOp* op);
  int (*GetVariadicOutputHomogeneity)(const CustomOp* op);
  Status* (*CreateKernelV2)(const CustomOp* op, const Api* api, const KernelInfo* info, void** kernel);
  Status* (*KernelComputeV2)(void* kernel, KernelContext* context);
  Status* (*InferOutputShapeFn)(const CustomOp* op, ShapeInferContext* context);
  int (*GetStartVersion)(const CustomOp* op);
  int (*GetEndVersion)(const CustomOp* op);
};
static_assert(offsetof(CustomOp, GetEndVersion) == 21 * sizeof(void*), "the operators of version 17");

}  // namespace ort

#endif
