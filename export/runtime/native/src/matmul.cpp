// Products of two packed activations: the rows of the second operand become panels, then it is a dense layer.
#include <algorithm>
#include <limits>
#include <string>

#include "buffer.h"
#include "failure.h"
#include "kernels.h"
#include "parallel.h"
#include "steps.h"

namespace bnn {

namespace {

constexpr int64_t most_terms = int64_t{1} << 28;

inline int32_t ones(const uint32_t* words, int64_t count) {
  int32_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += __builtin_popcount(words[i]);
  return sum;
}

class Product {
 public:
  Product(const bnn_matmul_shape& shape, const uint32_t* a, const uint32_t* w, void* y);
  void run(const bnn_pool* pool);

 private:
  void make_panel(int64_t batch, int64_t block);
  void rows(int64_t batch, int64_t block, int64_t begin, int64_t end) const;
  int64_t valid(int64_t block) const { return std::min(lanes_, s_.columns - block * lanes_); }

  const bnn_matmul_shape& s_;
  const uint32_t *a_, *w_;
  void* y_;
  const Kernels& kernels_;
  int64_t words_, lanes_, blocks_, panel_words_;
  Buffer<uint32_t> plain_, panels_;
  int shift_;
  Buffer<int32_t> start_, odd_;
  Buffer<float> scale_, threshold_;  // of one block; the second copy of `threshold_` is for the last block
};

void check(const bnn_matmul_shape& s, const uint32_t* a, const uint32_t* w, const void* y) {
  auto positive = [](const char* name, int64_t value) {
    require(value >= 0, [&] { return std::string(name) + " is " + std::to_string(value) + ", negative"; });
  };
  positive("batch", s.batch);
  positive("rows", s.rows);
  positive("columns", s.columns);
  require(s.terms > 0, [&] { return "terms is " + std::to_string(s.terms) + ", not positive"; });
  if (s.terms > most_terms) {
    throw Failure{BNN_UNSUPPORTED, "a sum has " + std::to_string(s.terms) + " terms, more than " + std::to_string(most_terms)};
  }
  require(s.codes == BNN_SIGNED || s.codes == BNN_UNSIGNED,
          [&] { return "codes is " + std::to_string(static_cast<int>(s.codes)) + ", not a bnn_codes"; });
  require(s.output == BNN_INT32 || s.output == BNN_FLOAT32 || s.output == BNN_BITS,
          [&] { return "output is " + std::to_string(static_cast<int>(s.output)) + ", not a bnn_output"; });
  require(s.addend == nullptr || (s.addend_row >= 0 && s.addend_column >= 0),
          [] { return std::string("a stride of the addend is negative"); });
  const bool empty = s.batch == 0 || s.rows == 0 || s.columns == 0;
  require(empty || (a != nullptr && w != nullptr && y != nullptr), [] { return std::string("a, w or y is null"); });
}

Product::Product(const bnn_matmul_shape& s, const uint32_t* a, const uint32_t* w, void* y)
    : s_(s), a_(a), w_(w), y_(y), kernels_(current_kernels()) {
  words_ = static_cast<int64_t>(bnn_words(static_cast<size_t>(s.terms)));
  lanes_ = kernels_.lanes(s.columns);
  blocks_ = s.columns / lanes_ + (s.columns % lanes_ != 0);
  panel_words_ = kernels_.make_panel == nullptr ? words_ * lanes_ : kernels_.panel_words(words_, lanes_);
  const int64_t padded = times(times(s.batch, blocks_), lanes_);
  times(times(times(s.batch, s.rows), plus(s.columns, 31)), sizeof(float));
  times(times(times(s.batch, s.rows), words_), sizeof(uint32_t));
  panels_ = Buffer<uint32_t>(times(times(s.batch, blocks_), panel_words_));
  if (kernels_.make_panel != nullptr) plain_ = Buffer<uint32_t>(times(padded, words_));
  start_ = Buffer<int32_t>(padded);
  shift_ = s.codes == BNN_SIGNED;
  const bool odd = shift_ > 0 && (s.terms % 2 != 0 || too_large_to_double(s.scale));
  if (odd) {
    odd_ = Buffer<int32_t>(lanes_);
    std::fill_n(odd_.data(), lanes_, static_cast<int32_t>(s.terms % 2));
  }
  scale_ = Buffer<float>(lanes_);
  std::fill_n(scale_.data(), lanes_, shift_ > 0 && !odd ? 2.0f * s.scale : s.scale);
  threshold_ = Buffer<float>(2 * lanes_);
  std::fill_n(threshold_.data(), 2 * lanes_, s.threshold);
  // Nothing is at least NaN: columns that do not exist get bit 0.
  const int64_t last = valid(blocks_ - 1);
  std::fill_n(threshold_.data() + lanes_ + last, lanes_ - last, std::numeric_limits<float>::quiet_NaN());
}

void Product::make_panel(int64_t batch, int64_t block) {
  const int64_t index = batch * blocks_ + block;
  uint32_t* panel = panels_.data() + index * panel_words_;
  uint32_t* plain = plain_.size() > 0 ? plain_.data() + index * words_ * lanes_ : panel;
  int32_t* start = start_.data() + index * lanes_;
  const uint32_t* rows = w_ + (batch * s_.columns + block * lanes_) * words_;
  const int64_t count = valid(block);
  for (int64_t k = 0; k < words_; ++k) {
    for (int64_t lane = 0; lane < lanes_; ++lane) plain[k * lanes_ + lane] = lane < count ? rows[lane * words_ + k] : 0u;
  }
  for (int64_t lane = 0; lane < lanes_; ++lane) {
    start[lane] = lane >= count                ? 0
                  : s_.codes == BNN_SIGNED ? static_cast<int32_t>(s_.terms >> 1)
                                               : ones(rows + lane * words_, words_);
  }
  if (plain != panel) kernels_.make_panel(plain, words_, lanes_, panel);
}

void Product::rows(int64_t batch, int64_t block, int64_t begin, int64_t end) const {
  const int64_t index = batch * blocks_ + block, first = block * lanes_;
  const int64_t bit_words = static_cast<int64_t>(bnn_words(static_cast<size_t>(s_.columns)));
  const int64_t run = 0;
  Position positions[strip_positions];
  float addend[strip_positions * most_lanes];
  Strip strip{};
  for (int64_t i = 0; i < strip_positions; ++i) positions[i] = {static_cast<int32_t>(i * words_), static_cast<int32_t>(i), 0};
  strip.positions = positions;
  strip.runs = &run;
  strip.run_count = 1;
  strip.run_words = words_;
  strip.panel = panels_.data() + index * panel_words_;
  strip.lanes = lanes_;
  strip.valid = valid(block);
  strip.start = start_.data() + index * lanes_;
  strip.odd = odd_.size() > 0 ? odd_.data() : nullptr;
  strip.shift = shift_;
  strip.output = s_.output == BNN_INT32 ? BNN_INT32 : BNN_FLOAT32;
  strip.scale = scale_.data();
  uint32_t* const bits = static_cast<uint32_t*>(y_) + batch * s_.rows * bit_words + first / 32;
  float* const values = static_cast<float*>(y_) + batch * s_.rows * s_.columns + first;  // or int32_t
  if (s_.output == BNN_BITS) {
    strip.bits_stride = bit_words;
    strip.next = threshold_.data() + (block == blocks_ - 1 ? lanes_ : 0);
  } else {
    strip.y_stride = s_.columns;
  }
  const float* from = s_.addend;
  bool gathered = false;
  if (from != nullptr) {
    if (s_.addend_offsets != nullptr) from += s_.addend_offsets[batch];
    from += first * s_.addend_column;
    gathered = s_.addend_column != 1;
    strip.residual = addend;
    strip.residual_stride = gathered ? lanes_ : s_.addend_row;
  }
  for (int64_t row = begin; row < end; row += strip_positions) {
    strip.count = std::min(strip_positions, end - row);
    strip.x = a_ + (batch * s_.rows + row) * words_;
    if (s_.output == BNN_BITS) {
      strip.bits = bits + row * bit_words;
    } else {
      strip.y = values + row * s_.columns;
    }
    if (from != nullptr && !gathered) strip.residual = from + row * s_.addend_row;
    if (gathered) {
      for (int64_t i = 0; i < strip.count; ++i) {
        for (int64_t lane = 0; lane < strip.valid; ++lane) {
          addend[i * lanes_ + lane] = from[(row + i) * s_.addend_row + lane * s_.addend_column];
        }
      }
    }
    kernels_.strip(strip);
  }
}

void Product::run(const bnn_pool* pool) {
  const int64_t pairs = s_.batch * blocks_;
  if (threads_of(pool) == 1 || pairs >= wanted_tasks(pool)) {
    parallel_ranges(pool, pairs, 1, [this](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        make_panel(i / blocks_, i % blocks_);
        rows(i / blocks_, i % blocks_, 0, s_.rows);
      }
    });
    return;
  }
  // Too few blocks to keep every thread busy: cut the rows as well, which needs the panels first.
  parallel(pool, pairs, [this](int64_t i) { make_panel(i / blocks_, i % blocks_); });
  const int64_t cuts = std::min((s_.rows + 7) / 8, (wanted_tasks(pool) + pairs - 1) / pairs);
  parallel(pool, pairs * cuts, [this, cuts](int64_t i) {
    const int64_t pair = i / cuts, cut = i % cuts;
    rows(pair / blocks_, pair % blocks_, s_.rows * cut / cuts, s_.rows * (cut + 1) / cuts);
  });
}

}  // namespace

}  // namespace bnn

extern "C" {

bnn_status bnn_matmul(const bnn_matmul_shape* shape, const uint32_t* a, const uint32_t* w, void* y,
                      const bnn_pool* pool) {
  return bnn::guarded("bnn_matmul", [&] {
    bnn::require(shape != nullptr, [] { return std::string("shape is null"); });
    bnn::check(*shape, a, w, y);
    if (shape->batch == 0 || shape->rows == 0 || shape->columns == 0) return;
    bnn::Product(*shape, a, w, y).run(pool);
  });
}
}
