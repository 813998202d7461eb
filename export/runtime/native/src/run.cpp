// Running a layer: the work is cut into strips (some output positions times some blocks of outputs).
#include <algorithm>
#include <string>

#include "failure.h"
#include "feed.h"
#include "fit.h"
#include "parallel.h"
#include "scatter.h"
#include "steps.h"

namespace bnn {

// One call of Layer::run; lives on the caller's stack.
class Run {
 public:
  Run(const Layer& layer, const Fit& fit, int64_t batch, const bnn_epilogue& epilogue);
  void operator()(const uint32_t* bits, const bnn_pool* pool);

 private:
  // The strips of a phase: `chunks` cuts of the positions of every image times `parts` cuts of its blocks.
  struct Cut {
    int64_t images, positions, chunk, chunks, parts, first_task;
  };

  void cut(const bnn_pool* pool);
  void task(int64_t index) const;
  void block(size_t p, Strip strip, int64_t b) const;
  void place_bits(const Strip& strip, const Block& block, const uint32_t* words) const;

  const Layer& layer_;
  const Fit& fit_;
  const bnn_epilogue& epilogue_;
  const int64_t batch_, output_positions_, output_words_, words_;  // words_: of an input position
  const int shift_;
  const bool odd_;  // whether sums may be odd
  Steps steps_;
  std::vector<Buffer<int32_t>> limits_;  // by phase
  Buffer<uint32_t> copy_;
  const uint32_t* input_ = nullptr;
  std::vector<Cut> cuts_;
  int64_t tasks_ = 0;
  uint32_t* bits_out_;
  bool channels_first_, merges_;
};

namespace {

// Sums of an even number of codes -1 and +1 are even, padded positions included.
bool odd_terms(const Layer::Description& d) { return d.channels / d.groups % 2 != 0; }

bool too_large(const bnn_epilogue& e) {
  return e.output == BNN_FLOAT32 && e.scale != nullptr && std::any_of(e.scale, e.scale + e.scales, too_large_to_double);
}

}  // namespace

Run::Run(const Layer& layer, const Fit& fit, int64_t batch, const bnn_epilogue& epilogue)
    : layer_(layer),
      fit_(fit),
      epilogue_(epilogue),
      batch_(batch),
      output_positions_(volume(fit.output)),
      output_words_(static_cast<int64_t>(bnn_words(static_cast<size_t>(layer.description_.outputs)))),
      words_(layer.words_per_position()),
      shift_(layer.description_.codes == BNN_SIGNED),
      odd_(shift_ > 0 && epilogue.output != BNN_BITS && (odd_terms(layer.description_) || too_large(epilogue))),
      steps_(epilogue, layer.blocks_, layer.lanes_, odd_ ? 0 : shift_) {
  const int64_t padded = times(times(batch, volume(fit.padded)), times(layer.words_per_position(), sizeof(uint32_t)));
  if (fit.copies) copy_ = Buffer<uint32_t>(padded / sizeof(uint32_t));
  bits_out_ = epilogue.output == BNN_BITS      ? static_cast<uint32_t*>(epilogue.y)
              : epilogue.output == BNN_FLOAT32 ? epilogue.bits
                                               : nullptr;
  channels_first_ = epilogue.output != BNN_BITS && epilogue.layout == BNN_CHANNELS_FIRST && output_positions_ > 1;
  merges_ = bits_out_ != nullptr &&
            std::any_of(layer.blocks_.begin(), layer.blocks_.end(), [](const Block& b) { return b.first % 32 != 0; });
  if (epilogue.output == BNN_BITS) {
    for (const PhaseFit& phase : fit.phases) {
      limits_.push_back(limits(phase.base, epilogue.threshold, layer.blocks_, layer.lanes_, shift_));
    }
  }
}

void Run::cut(const bnn_pool* pool) {
  const int64_t wanted = wanted_tasks(pool), blocks = static_cast<int64_t>(layer_.blocks_.size());
  constexpr int64_t tile = 8;  // positions that the kernels take together
  for (const PhaseFit& phase : fit_.phases) {
    Cut c{};
    c.first_task = tasks_;
    // Where every position reads one of its own, images need not be told apart.
    c.images = fit_.pointwise ? 1 : batch_;
    c.positions = fit_.pointwise ? batch_ * phase.outputs() : phase.outputs();
    if (c.positions > 0) {
      // Rows of a page or more: fewer of them at a time are easier to follow for the memory.
      const bool wide = epilogue_.output != BNN_BITS && !channels_first_ && layer_.description_.outputs >= 1024;
      const int64_t most = wide ? strip_positions / 2 : strip_positions;
      c.chunks = (c.positions + most - 1) / most;
      c.parts = merges_ ? 1 : std::min(blocks, std::max<int64_t>(1, wanted / (c.images * c.chunks)));
      if (c.images * c.chunks * c.parts < wanted) {
        c.chunks = std::max(c.chunks, std::min((c.positions + tile - 1) / tile, wanted / (c.images * c.parts)));
      }
      c.chunk = ((c.positions + c.chunks - 1) / c.chunks + tile - 1) / tile * tile;
      c.chunks = (c.positions + c.chunk - 1) / c.chunk;
      tasks_ += c.images * c.chunks * c.parts;
    }
    cuts_.push_back(c);
  }
}

void Run::operator()(const uint32_t* bits, const bnn_pool* pool) {
  input_ = bits;
  if (fit_.copies) {
    const Layer::Description& d = layer_.description_;
    const FeedShape shape{layer_.feed_, d.channels, d.outputs, d.groups, layer_.group_words_,
                          layer_.words_per_position()};
    feed_input(shape, fit_, bits, batch_, copy_.data(), pool);
    input_ = copy_.data();
  }
  cut(pool);
  parallel(pool, tasks_, [this](int64_t index) { task(index); });
}

void Run::task(int64_t index) const {
  size_t p = cuts_.size() - 1;
  while (cuts_[p].positions == 0 || cuts_[p].first_task > index) --p;
  const Cut& c = cuts_[p];
  const PhaseFit& fit = fit_.phases[p];
  const int64_t chunk = (index - c.first_task) / c.parts, part = (index - c.first_task) % c.parts;
  const int64_t image = chunk / c.chunks, first = chunk % c.chunks * c.chunk;
  Position positions[strip_positions];
  Strip strip{};
  strip.count = std::min(c.chunk, c.positions - first);
  strip.positions = positions;
  if (fit_.pointwise) {
    strip.x = input_ + first * words_;
    strip.origin = first;
    for (int32_t i = 0; i < strip.count; ++i) positions[i] = {i * static_cast<int32_t>(words_), i, 0};
  } else {
    strip.x = input_ + image * volume(fit_.padded) * words_;
    strip.origin = image * output_positions_;
    if (fit.positions.empty()) {
      fit.place(fit_.padded, fit_.before, fit_.output, words_, first, strip.count, positions);
    } else {
      strip.positions = fit.positions.data() + first;
    }
  }
  strip.runs = fit.runs.data();
  strip.run_count = static_cast<int64_t>(fit.runs.size());
  strip.run_words = fit.run_words;
  strip.lanes = layer_.lanes_;
  const int64_t blocks = static_cast<int64_t>(layer_.blocks_.size());
  strip.run_step = blocks * layer_.lanes_;
  strip.start = epilogue_.output == BNN_BITS ? limits_[p].data() : fit.start.data();
  strip.odd = odd_ ? fit.odd.data() : nullptr;
  strip.shift = shift_;
  strip.output = epilogue_.output;
  if (merges_) {
    for (int64_t i = 0; i < strip.count; ++i) std::fill_n(bits_out_ + (strip.origin + strip.positions[i].y) * output_words_, output_words_, 0u);
  }
  for (int64_t b = blocks * part / c.parts; b < blocks * (part + 1) / c.parts; ++b) block(p, strip, b);
}

// `strip` is complete but for what depends on the block.
void Run::block(size_t p, Strip strip, int64_t b) const {
  const Phase& phase = layer_.phases_[p];
  const Block& block = layer_.blocks_[static_cast<size_t>(b)];
  const int64_t outputs = layer_.description_.outputs;
  strip.valid = block.valid;
  strip.panel = phase.panels.data() + b * phase.panel_words;
  strip.start += b * layer_.lanes_;
  if (strip.odd != nullptr) strip.odd += b * layer_.lanes_;
  if (layer_.feed_ == Feed::lanes) {
    strip.x += b * layer_.lanes_;
  } else {
    strip.x += block.group * layer_.group_words_;
  }
  steps_.apply(strip, b);

  const int64_t first = strip.origin + strip.positions[0].y;
  const bool values = epilogue_.output != BNN_BITS, neighbours = fit_.phases[p].is_all;
  const bool local = values && (channels_first_ || !neighbours), local_bits = merges_ || !neighbours;
  alignas(64) float results[strip_positions * most_lanes];  // or int32_t: 4 bytes each
  alignas(64) float residual[strip_positions * most_lanes];
  uint32_t words[strip_positions * most_lanes / 32];
  const Target target{layer_.kernels_, &strip, &block, outputs, output_positions_, channels_first_};
  float* const y = static_cast<float*>(epilogue_.y);
  if (values) {
    strip.y = local ? results : y + first * outputs + block.first;
    strip.y_stride = local ? layer_.lanes_ : outputs;
    if (epilogue_.output == BNN_FLOAT32 && epilogue_.residual != nullptr) {
      if (local) gather(target, epilogue_.residual, residual);
      strip.residual = local ? residual : epilogue_.residual + first * outputs + block.first;
      strip.residual_stride = strip.y_stride;
    }
  }
  if (bits_out_ != nullptr) {
    strip.bits = local_bits ? words : bits_out_ + first * output_words_ + block.first / 32;
    strip.bits_stride = local_bits ? layer_.lanes_ / 32 : output_words_;
  }

  (layer_.feed_ == Feed::lanes ? layer_.kernels_->lane_strip : layer_.kernels_->strip)(strip);

  if (local) scatter(target, results, y);
  if (bits_out_ != nullptr && local_bits) place_bits(strip, block, words);
}

// Blocks of groups that do not end at a word share words with their neighbours.
void Run::place_bits(const Strip& strip, const Block& block, const uint32_t* words) const {
  const int64_t shift = block.first % 32, count = (block.valid + 31) / 32;
  for (int64_t i = 0; i < strip.count; ++i) {
    uint32_t* to = bits_out_ + (strip.origin + strip.positions[i].y) * output_words_ + block.first / 32;
    for (int64_t w = 0; w < count; ++w) {
      const uint32_t bits = words[i * strip.bits_stride + w];
      if (!merges_) {
        to[w] = bits;
        continue;
      }
      to[w] |= bits << shift;
      if (shift > 0 && bits >> (32 - shift) != 0) to[w + 1] |= bits >> (32 - shift);
    }
  }
}

namespace {

// Moves everything that has an entry per output position behind that many of them.
void advance(bnn_epilogue& e, int64_t positions, int64_t outputs) {
  const int64_t words = static_cast<int64_t>(bnn_words(static_cast<size_t>(outputs)));
  e.y = static_cast<uint32_t*>(e.y) + positions * (e.output == BNN_BITS ? words : outputs);
  if (e.output != BNN_FLOAT32) return;
  if (e.residual != nullptr) e.residual += positions * outputs;
  if (e.bits != nullptr) e.bits += positions * words;
}

}  // namespace

// How many images to copy together: as many as stay in a cache. A single one may be large, but not absurdly so.
int64_t Layer::images_at_once(const Fit& fit, int64_t batch) const {
  if (!fit.copies) return batch;
  constexpr int64_t cache = int64_t{1} << 20;
  const int64_t bytes = times(volume(fit.padded), times(words_per_position(), sizeof(uint32_t)));
  const auto packed = [](const Sizes& size, int64_t channels) {
    return times(volume(size), times(static_cast<int64_t>(bnn_words(static_cast<size_t>(channels))), sizeof(uint32_t)));
  };
  require_proportionate(bytes, plus(packed(fit.size, description_.channels), packed(fit.output, description_.outputs)),
                        "the input with its padding");
  return std::min(batch, std::max<int64_t>(1, cache / bytes));
}

void Layer::run(const uint32_t* bits, int64_t batch, const Sizes& size, const bnn_epilogue& epilogue,
                const bnn_pool* pool) const {
  require(bits != nullptr, [] { return std::string("bits is null"); });
  require(batch >= 0, [&] { return "batch is " + std::to_string(batch) + ", negative"; });
  check_epilogue(epilogue, description_.outputs);
  // Throws where a tensor could not be addressed.
  const int64_t most_outputs = plus(description_.outputs, 31), most_channels = plus(description_.channels, 31);
  times(times(batch, volume(output_size(size))), times(most_outputs, sizeof(float)));
  times(times(batch, volume(size)), times(most_channels, sizeof(uint32_t)));
  const std::shared_ptr<const Fit> fitted = fit(size);
  if (batch == 0) return;
  const int64_t images = images_at_once(*fitted, batch);
  for (int64_t first = 0; first < batch; first += images) {
    const int64_t outputs_before = first * volume(fitted->output);
    bnn_epilogue part = epilogue;
    advance(part, outputs_before, description_.outputs);
    const uint32_t* from = bits + first * volume(size) * static_cast<int64_t>(bnn_words(static_cast<size_t>(description_.channels)));
    Run(*this, *fitted, std::min(images, batch - first), part)(from, pool);
  }
}

}  // namespace bnn
