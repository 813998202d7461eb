// What a layer needs to know about one size of its input; kept by the layer for the sizes it saw last.
#ifndef BNN_FIT_H
#define BNN_FIT_H

#include <vector>

#include "kernels.h"
#include "layer.h"

namespace bnn {

struct PhaseFit {
  std::array<Axis, most_dimensions> axes;
  std::vector<int64_t> runs;  // offsets in words from the start of a window; runs are contiguous k-words
  int64_t run_words = 0;
  Sizes classes{1, 1, 1};     // of borders, by dimension
  Buffer<int32_t> base;       // by class (row-major over the dimensions), block and lane
  Buffer<int32_t> start, odd; // base = (start << shift) + odd, for the strips
  std::vector<Position> positions;  // of one image, unless there are too many to keep
  bool is_all = false;        // its outputs are all there are, in their order
  int64_t outputs() const { return axes[0].count() * axes[1].count() * axes[2].count(); }
  // Fills in `count` positions of an image from number `first` on.
  void place(const Sizes& padded, const Sizes& before, const Sizes& output, int64_t words, int64_t first, int64_t count,
             Position* to) const;
  int64_t class_count() const { return classes[0] * classes[1] * classes[2]; }
};

struct Fit {
  Sizes size, output, before, padded;  // padded: with what windows reach over on both sides
  bool copies;                         // whether the input has to be copied into a padded (or regrouped) buffer
  bool pointwise;                      // output position i reads input position i, and nothing else
  std::vector<PhaseFit> phases;
};

}  // namespace bnn

#endif
