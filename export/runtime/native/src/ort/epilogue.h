// The inputs and outputs behind the sums of an operator with weights.
#ifndef BNN_ORT_EPILOGUE_H
#define BNN_ORT_EPILOGUE_H

#include <array>
#include <vector>

#include "ort/node.h"

namespace bnn::ort_ops {

// One run's epilogue with the memory that it points into.
struct Bound {
  bnn_epilogue epilogue;
  std::vector<float> residual;  // a residual of one element, spread over the output
  bool empty;                   // no output has elements: there is nothing to compute
};

class Epilogue {
 public:
  // Finds the steps that a constant leaves out. The inputs of the epilogue are those behind X and weight.
  explicit Epilogue(const Info& info);

  // `lead` are the sizes of the output without its channels (batch, size...). Makes the outputs of the call.
  void bind(Call& call, const Shape& lead, int64_t outputs, Bound& bound) const;

 private:
  enum Step { kScale, kBias, kResidual, kBefore, kSlope, kAfter, kSteps };

  void bind_steps(Call& call, const Shape& shape, int64_t outputs, Bound& bound) const;

  const Operator& op_;
  std::array<bool, kSteps> dropped_{};
};

}  // namespace bnn::ort_ops

#endif
