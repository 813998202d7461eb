// Shapes of outputs from shapes of inputs, while ONNX Runtime loads a model.
#ifndef BNN_ORT_INFERENCE_H
#define BNN_ORT_INFERENCE_H

#include <string>
#include <vector>

#include "ort/node.h"

namespace bnn::ort_ops {

// A size that is known (a value of 0 or more), has a name, or neither.
struct Size {
  int64_t value = -1;
  std::string name;

  bool known() const { return value >= 0; }
};
using SymbolicShape = std::vector<Size>;

// The node whose shapes are inferred. What cannot be told stays open: no function throws for a bad node, since its
// kernel says better what is wrong with it.
class Inference {
 public:
  Inference(const Operator& op, const ort::Api& api, ort::ShapeInferContext* context)
      : op_(op), api_(api), context_(context) {}

  // False if not even the rank is known.
  bool input(size_t index, SymbolicShape* shape) const;
  bool integers(const char* name, Shape* values) const;
  bool integer(const char* name, int64_t* value) const;
  // Does nothing if one of the sizes is not known and has no name.
  void output(size_t index, const SymbolicShape& shape) const;

 private:
  const Operator& op_;
  const ort::Api& api_;
  ort::ShapeInferContext* context_;
};

void infer_pack(const Operator& op, Inference& inference);
void infer_unpack(const Operator& op, Inference& inference);
void infer_conv(const Operator& op, Inference& inference);
void infer_transposed(const Operator& op, Inference& inference);
void infer_dense(const Operator& op, Inference& inference);
void infer_matmul(const Operator& op, Inference& inference);
void infer_maxpool(const Operator& op, Inference& inference);

}  // namespace bnn::ort_ops

#endif
