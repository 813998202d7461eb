// What a kernel sees of its node: attributes and constant inputs when it is created, tensors and threads when it runs.
#ifndef BNN_ORT_NODE_H
#define BNN_ORT_NODE_H

#include <memory>
#include <string>
#include <vector>

#include "bnn.h"
#include "failure.h"
#include "ort_abi.h"

namespace bnn::ort_ops {

using Shape = std::vector<int64_t>;

std::string text(const Shape& shape);
// The number of elements; throws where it overflows.
int64_t elements(const Shape& shape);
// The bytes of one position of packed activations.
int64_t packed_bytes(int64_t channels);

struct Tensor {
  const char* name;
  Shape shape;
  const void* data;

  int64_t count() const { return elements(shape); }
  const float* floats() const { return static_cast<const float*>(data); }
};

struct Port {
  const char* name;
  ort::ElementType type;
};

class Info;
class Call;
class Inference;

class Kernel {
 public:
  virtual ~Kernel() = default;
  // Has no state of its own that changes: several threads may be in here.
  virtual void run(Call& call) const = 0;
};

// One operator of the domain.
struct Operator {
  const char* name;
  std::vector<Port> inputs, outputs;
  // Of the sums, for the operators that have some: what is made of them and how a map lies.
  bnn_output output;
  bnn_layout layout;
  std::unique_ptr<Kernel> (*make)(const Info& info);
  void (*infer)(const Operator& op, Inference& inference);
};

// The node of a kernel while the kernel is created.
class Info {
 public:
  Info(const Operator& op, const ort::Api& api, const ort::KernelInfo* info) : op_(op), api_(api), info_(info) {}

  const Operator& op() const { return op_; }
  int64_t integer(const char* name) const;
  float real(const char* name) const;
  Shape integers(const char* name) const;
  // The only entry of a list of one integer.
  int64_t only(const char* name) const;
  // False if the input is not constant.
  bool constant(size_t index, Tensor* tensor) const;

 private:
  const Operator& op_;
  const ort::Api& api_;
  const ort::KernelInfo* info_;
};

// One run of a kernel.
class Call {
 public:
  Call(const Operator& op, const ort::Api& api, ort::KernelContext* context);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  Tensor input(size_t index) const;
  // The words of packed bits, in a copy if they do not lie on a word boundary.
  const uint32_t* words(const Tensor& tensor);
  void* output(size_t index, const Shape& shape);
  const bnn_pool* pool() const { return &pool_; }

 private:
  static void spread(void* call, size_t count, void (*task)(void* context, size_t i), void* context);

  const Operator& op_;
  const ort::Api& api_;
  ort::KernelContext* context_;
  bnn_pool pool_;
  std::vector<std::vector<uint32_t>> copies_;
};

// Throws the message of the C interface unless it says that all is well.
inline void check(bnn_status status) {
  if (status != BNN_OK) throw Failure{status, bnn_last_error()};
}

}  // namespace bnn::ort_ops

#endif
