// Products of two activations.
#include <algorithm>

#include "ort/attributes.h"
#include "ort/operators.h"

namespace bnn::ort_ops {

namespace {

float only_float(const Tensor& tensor) {
  require(tensor.shape == Shape{1}, [&] {
    return std::string("input '") + tensor.name + "' has shape " + text(tensor.shape) + ", expected [1]";
  });
  return tensor.floats()[0];
}

// Where the entries of an addend that broadcasts to `shape` lie: offsets by batch entry, strides of rows and columns.
struct Broadcast {
  std::vector<int64_t> offsets;
  int64_t row = 0, column = 0;
};

Broadcast broadcast(const Tensor& addend, const Shape& shape) {
  const size_t rank = shape.size(), missing = rank - std::min(rank, addend.shape.size());
  bool fits = addend.shape.size() <= rank;
  Shape strides(rank, 0);
  int64_t stride = 1;
  for (size_t i = rank; fits && i-- > missing;) {
    const int64_t size = addend.shape[i - missing];
    fits = size == 1 || size == shape[i];
    strides[i] = size == 1 ? 0 : stride;
    stride *= size;
  }
  require(fits, [&] {
    return "input 'addend' has shape " + text(addend.shape) + ", which does not broadcast to " + text(shape);
  });
  Broadcast result;
  result.row = strides[rank - 2];
  result.column = strides[rank - 1];
  result.offsets = {0};
  for (size_t i = 0; i + 2 < rank; ++i) {
    std::vector<int64_t> longer;
    for (const int64_t offset : result.offsets) {
      for (int64_t j = 0; j < shape[i]; ++j) longer.push_back(offset + j * strides[i]);
    }
    result.offsets = std::move(longer);
  }
  return result;
}

class MatMulKernel final : public Kernel {
 public:
  explicit MatMulKernel(const Info& info)
      : output_(info.op().output), terms_(info.only("channels")), codes_(codes(info)) {
    require(terms_ >= 1 || (terms_ == 0 && codes_ == BNN_UNSIGNED), [&] {
      return "attribute 'channels' is " + std::to_string(terms_) +
             ", expected the number of terms, or 0 for codes whose low is 0";
    });
    Tensor addend;
    no_addend_ = output_ != BNN_INT32 && info.constant(3, &addend) && addend.count() == 1 &&
                 addend.shape.size() <= 1 && addend.floats()[0] == 0.0f;
  }

  void run(Call& call) const override {
    const Tensor a = call.input(0), b = call.input(1);
    const size_t rank = a.shape.size();
    const bool fits = rank >= 2 && b.shape.size() == rank && a.shape.back() == b.shape.back() &&
                      std::equal(a.shape.begin(), a.shape.end() - 2, b.shape.begin());
    require(fits, [&] {
      return "inputs 'A' and 'B' have shapes " + text(a.shape) + " and " + text(b.shape) +
             ", expected [..., M, bytes] and [..., N, bytes] with the same sizes in front";
    });
    const int64_t bytes = a.shape.back();
    const bool whole = terms_ == 0 ? bytes % 4 == 0 : bytes == packed_bytes(terms_);
    require(whole, [&] {
      return "inputs 'A' and 'B' have rows of " + std::to_string(bytes) + " bytes, expected " +
             (terms_ == 0 ? "whole words of 4" : std::to_string(packed_bytes(terms_)) + " for " +
                                                     std::to_string(terms_) + " terms");
    });
    bnn_matmul_shape s{};
    const Shape lead(a.shape.begin(), a.shape.end() - 2);
    s.batch = elements(lead);
    s.rows = a.shape[rank - 2];
    s.columns = b.shape[rank - 2];
    s.terms = terms_ == 0 ? 8 * bytes : terms_;
    s.codes = codes_;
    s.output = output_;
    Shape shape = lead;
    shape.insert(shape.end(), {s.rows, s.columns});
    Broadcast places;
    if (output_ != BNN_INT32) {
      s.scale = only_float(call.input(2));
      if (!no_addend_) {
        const Tensor addend = call.input(3);
        places = broadcast(addend, shape);
        s.addend = addend.floats();
        s.addend_offsets = places.offsets.data();
        s.addend_row = places.row;
        s.addend_column = places.column;
      }
    }
    if (output_ == BNN_BITS) {
      s.threshold = only_float(call.input(4));
      shape.back() = packed_bytes(s.columns);
    }
    void* y = call.output(0, shape);
    if (elements(shape) == 0) return;
    if (bytes == 0) {  // no term at all, as with a sequence of length 0: low codes add nothing
      s.terms = 1;
      const std::vector<uint32_t> low(static_cast<size_t>(s.batch * std::max(s.rows, s.columns)));
      return check(bnn_matmul(&s, low.data(), low.data(), y, call.pool()));
    }
    check(bnn_matmul(&s, call.words(a), call.words(b), y, call.pool()));
  }

 private:
  bnn_output output_;
  int64_t terms_;
  bnn_codes codes_;
  bool no_addend_ = false;
};

}  // namespace

std::unique_ptr<Kernel> make_matmul(const Info& info) { return std::make_unique<MatMulKernel>(info); }

}  // namespace bnn::ort_ops
