// A stand-in for ONNX Runtime that holds one node: just enough of its interface to create, infer and run a kernel.
#ifndef BNN_MOCK_RUNTIME_H
#define BNN_MOCK_RUNTIME_H

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace mock {

using Shape = std::vector<int64_t>;

// A tensor whose memory ends where its last element does, so that a sanitizer sees every byte read beyond.
struct Tensor {
  int type = ort::kUint8;
  Shape shape;
  std::vector<unsigned char> memory;
  size_t offset = 0;  // where the elements begin: not 0 for tensors that lie on no word boundary

  unsigned char* data() { return memory.data() + offset; }
  int64_t count() const;
  // Makes the memory fit the shape. False if that is too much.
  bool allocate(bool zero);
};

struct Node {
  const ort::CustomOp* op = nullptr;
  std::map<std::string, Shape> lists;
  std::map<std::string, int64_t> integers;
  std::map<std::string, float> reals;
  std::vector<Tensor> inputs;
  std::vector<bool> constant, symbolic;  // symbolic: sizes of these inputs have names for shape inference
  std::vector<Tensor> outputs;
  std::map<size_t, Shape> inferred;  // -1 for sizes that have a name
  bool backwards = false;            // tasks run from the last to the first

  // The status's message, or an empty one for success.
  std::string infer();
  std::string create(void** kernel);
  std::string compute(void* kernel);
};

// All operators that the library registers.
const std::vector<const ort::CustomOp*>& operators();

}  // namespace mock

#endif
