// A layer with constant weights, as every kernel wants it: outputs in blocks of lanes, weights in panels.
#ifndef BNN_LAYER_H
#define BNN_LAYER_H

#include <array>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "bnn.h"
#include "buffer.h"
#include "geometry.h"
#include "kernels.h"

namespace bnn {

// How the activations of a group reach the lanes.
//   whole    the words of a position are those of the group (one group, or groups of whole words)
//   aligned  groups are not whole words: their bits are moved into words of their own first
//   lanes    groups have few outputs: every lane gets the words of its own group
enum class Feed { whole, aligned, lanes };

struct Block {
  int64_t group, first, valid;  // first: index of its first output among all
};

// The outputs that share a set of taps: all of them, or one phase of a transposed convolution.
struct Phase {
  std::array<std::vector<int64_t>, most_dimensions> taps;  // kernel coordinates
  int64_t words = 0;                                       // k-words of a panel
  int64_t panel_words = 0;                                 // what a panel takes
  Buffer<uint32_t> panels;                                 // by block
  Buffer<int32_t> base;                                    // by block and lane: z = base - (count << shift), inside
  Buffer<int32_t> tap_sums;                                // by tap, block and lane: sum of the weights over channels
  int64_t tap_count() const { return static_cast<int64_t>(taps[0].size() * taps[1].size() * taps[2].size()); }
};

// Where an output lies: its block, and its lane there.
using Seat = std::pair<int64_t, int64_t>;

// Where the tap of a kernel lies: its phase, and its number among the taps of that.
struct TapPlace {
  size_t phase = 0;
  int64_t index = 0;
};

// What depends on the size of the input but not on its contents.
struct Fit;

class Layer {
 public:
  struct Description {
    Window window;
    int64_t channels, outputs, groups;
    int pad_value;
    bnn_codes codes;
    bool transposed;
    Sizes output_pad;
  };

  // Bits of `weight` in the order that bnn.h gives for the kind of layer.
  Layer(const Description& description, const uint8_t* weight, size_t weight_bytes);
  ~Layer();

  const Window& window() const { return description_.window; }
  Sizes output_size(const Sizes& size) const;
  void run(const uint32_t* bits, int64_t batch, const Sizes& size, const bnn_epilogue& epilogue,
           const bnn_pool* pool) const;

 private:
  friend class Run;
  void make_blocks();
  void make_phases();
  void fill_phases(const uint8_t* weight);
  void fill_by_word(const uint8_t* weight, const std::vector<Seat>& seats, Buffer<uint32_t>& plain);
  void fill_by_bit(const uint8_t* weight, const std::vector<TapPlace>& places, const std::vector<Seat>& seats,
                   std::vector<Buffer<uint32_t>>& plain);
  std::shared_ptr<const Fit> fit(const Sizes& size) const;
  std::shared_ptr<const Fit> new_fit(const Sizes& size) const;

  int64_t words_per_position() const;
  int64_t images_at_once(const Fit& fit, int64_t batch) const;

  Description description_;
  const Kernels* kernels_;
  Feed feed_;
  int64_t lanes_, group_words_;
  std::vector<Block> blocks_;
  std::vector<Phase> phases_;

  static constexpr size_t most_fits = 8;
  mutable std::mutex mutex_;
  mutable std::vector<std::pair<Sizes, std::shared_ptr<const Fit>>> fits_;
};

// Throws unless the parameters of the description are possible.
void check_description(const Layer::Description& description);
// Throws unless the epilogue is complete for that many outputs.
void check_epilogue(const bnn_epilogue& epilogue, int64_t outputs);

}  // namespace bnn

#endif
