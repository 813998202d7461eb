// Creation of layers: blocks of outputs, phases, panels of weights.
#include "layer.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "failure.h"
#include "fit.h"

namespace bnn {

namespace {

// More terms than this in one sum would need more care with 32-bit sums of sums than they are worth.
constexpr int64_t most_terms = int64_t{1} << 28;
// Narrower groups than this take their activations lane by lane.
constexpr int64_t least_group_outputs = 16;

std::string text(const char* name, int64_t value) { return std::string(name) + " is " + std::to_string(value); }

}  // namespace

void check_description(const Layer::Description& d) {
  require(d.channels > 0, [&] { return text("channels", d.channels) + ", not positive"; });
  require(d.outputs > 0, [&] { return text("outputs", d.outputs) + ", not positive"; });
  require(d.groups > 0, [&] { return text("groups", d.groups) + ", not positive"; });
  require(d.channels % d.groups == 0,
          [&] { return text("groups", d.groups) + ", which does not divide " + text("channels =", d.channels); });
  require(d.outputs % d.groups == 0,
          [&] { return text("groups", d.groups) + ", which does not divide " + text("outputs =", d.outputs); });
  require(d.codes == BNN_SIGNED || d.codes == BNN_UNSIGNED,
          [&] { return text("codes", d.codes) + ", neither BNN_SIGNED nor BNN_UNSIGNED"; });
  require(d.pad_value >= -1 && d.pad_value <= 1, [&] { return text("pad_value", d.pad_value) + ", not -1, 0 or +1"; });
  require(d.codes == BNN_SIGNED || d.pad_value >= 0,
          [] { return std::string("pad_value is -1, which unsigned codes do not have"); });
  const int64_t terms = times(d.channels / d.groups, volume(d.window.kernel));
  if (terms > most_terms) {
    throw Failure{BNN_UNSUPPORTED, "a sum has " + std::to_string(terms) + " terms, more than " + std::to_string(most_terms)};
  }
}

Layer::~Layer() = default;

Layer::Layer(const Description& description, const uint8_t* weight, size_t weight_bytes)
    : description_(description), kernels_(&current_kernels()) {
  check_description(description_);
  require(weight != nullptr, [] { return std::string("weight is null"); });
  const int64_t taps = volume(description_.window.kernel);
  const int64_t rows = description_.transposed ? description_.channels : description_.outputs;
  const int64_t columns = description_.transposed ? description_.outputs : description_.channels;
  const int64_t bits = times(columns / description_.groups, taps);
  const int64_t bytes = times(rows, bits / 8 + (bits % 8 != 0));
  require(static_cast<int64_t>(weight_bytes) == bytes, [&] {
    return "the weight has " + std::to_string(weight_bytes) + " bytes, not " + std::to_string(bytes) + " (" +
           std::to_string(rows) + " rows of " + std::to_string(bits) + " bits)";
  });
  make_blocks();
  make_phases();
  fill_phases(weight);
}

void Layer::make_blocks() {
  const int64_t groups = description_.groups;
  const int64_t group_outputs = description_.outputs / groups, group_channels = description_.channels / groups;
  group_words_ = static_cast<int64_t>(bnn_words(static_cast<size_t>(group_channels)));
  feed_ = groups > 1 && group_outputs < least_group_outputs ? Feed::lanes
          : groups > 1 && group_channels % 32 != 0          ? Feed::aligned
                                                            : Feed::whole;
  if (feed_ == Feed::lanes) {
    lanes_ = 32;
    for (int64_t first = 0; first < description_.outputs; first += lanes_) {
      blocks_.push_back({0, first, std::min(lanes_, description_.outputs - first)});
    }
    return;
  }
  lanes_ = kernels_->lanes(group_outputs);
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t first = 0; first < group_outputs; first += lanes_) {
      blocks_.push_back({group, group * group_outputs + first, std::min(lanes_, group_outputs - first)});
    }
  }
}

int64_t Layer::words_per_position() const {
  switch (feed_) {
    case Feed::whole: return static_cast<int64_t>(bnn_words(static_cast<size_t>(description_.channels)));
    case Feed::aligned: return times(description_.groups, group_words_);
    case Feed::lanes: break;
  }
  return times(group_words_, times(static_cast<int64_t>(blocks_.size()), lanes_));
}

void Layer::make_phases() {
  const Window& window = description_.window;
  std::array<std::vector<std::vector<int64_t>>, most_dimensions> taps;
  for (int d = 0; d < most_dimensions; ++d) {
    if (description_.transposed) {
      taps[d] = transposed_taps(window, d);
    } else {
      taps[d].emplace_back();
      for (int64_t t = 0; t < window.kernel[d]; ++t) taps[d].front().push_back(t);
    }
  }
  const int64_t entries = times(static_cast<int64_t>(blocks_.size()), lanes_);
  for (const auto& first : taps[0]) {
    for (const auto& second : taps[1]) {
      for (const auto& third : taps[2]) {
        Phase phase;
        phase.taps = {first, second, third};
        phase.words = times(phase.tap_count(), group_words_);
        const bool plain = feed_ == Feed::lanes || kernels_->make_panel == nullptr;
        phase.panel_words = plain ? times(phase.words, lanes_) : kernels_->panel_words(phase.words, lanes_);
        phase.base = Buffer<int32_t>(entries);
        phase.base.clear();
        phase.tap_sums = Buffer<int32_t>(times(phase.tap_count(), entries));
        phase.tap_sums.clear();
        phases_.push_back(std::move(phase));
      }
    }
  }
}

namespace {

std::vector<TapPlace> tap_places(const std::vector<Phase>& phases, const Sizes& kernel) {
  std::vector<TapPlace> places(static_cast<size_t>(volume(kernel)));
  for (size_t p = 0; p < phases.size(); ++p) {
    int64_t index = 0;
    for (int64_t a : phases[p].taps[0]) {
      for (int64_t b : phases[p].taps[1]) {
        for (int64_t c : phases[p].taps[2]) {
          places[static_cast<size_t>((a * kernel[1] + b) * kernel[2] + c)] = {p, index++};
        }
      }
    }
  }
  return places;
}

// The stored bits of one filter, with room behind them to read whole words.
class Row {
 public:
  explicit Row(int64_t bytes) : bytes_(bytes), copy_(plus(bytes, sizeof(uint64_t))) { copy_.clear(); }
  void set(const uint8_t* bytes) { std::copy_n(bytes, bytes_, copy_.data()); }

  // The bits first, first + step, ..., `count` of them (at most 32), as a word.
  uint32_t every(int64_t step, int64_t first, int64_t count) const {
    if (step == 9) return every_ninth(first, count);
    uint32_t word = 0;
    if (step == 1) {  // `first` is a multiple of 32
      std::memcpy(&word, copy_.data() + first / 8, sizeof(word));
      return count < 32 ? word & ((1u << count) - 1) : word;
    }
    for (int64_t i = 0, at = first; i < count; ++i, at += step) {
      word |= (copy_[static_cast<size_t>(at / 8)] >> (at % 8) & 1u) << i;
    }
    return word;
  }

 private:
  // Kernels are 3x3 as a rule. The product moves the bits 9 k, for k = 0 to 6, to 56 + k; all its other terms lie
  // below those at places of their own, or fall off the end.
  uint32_t every_ninth(int64_t first, int64_t count) const {
    constexpr uint64_t wanted = 0x0040201008040201, shifts = 0x0101010101010100;
    uint32_t word = 0;
    for (int64_t i = 0, at = first; i < count; i += 7, at += 63) {
      uint64_t bits;
      std::memcpy(&bits, copy_.data() + at / 8, sizeof(bits));
      word |= static_cast<uint32_t>(((bits >> (at % 8)) & wanted) * shifts >> 56) << i;
    }
    return count < 32 ? word & ((1u << count) - 1) : word;
  }

  int64_t bytes_;
  Buffer<uint8_t> copy_;
};

}  // namespace

// The words of a filter lie in one lane; all taps are in the only phase, in their order.
void Layer::fill_by_word(const uint8_t* weight, const std::vector<Seat>& seats, Buffer<uint32_t>& plain) {
  Phase& phase = phases_.front();
  const int64_t taps = phase.tap_count(), blocks = static_cast<int64_t>(blocks_.size());
  const int64_t group_channels = description_.channels / description_.groups;
  const int64_t row_bytes = (group_channels * taps + 7) / 8;
  Row row(row_bytes);
  for (int64_t output = 0; output < description_.outputs; ++output) {
    const auto [block, lane] = seats[static_cast<size_t>(output)];
    row.set(weight + output * row_bytes);
    int32_t base = 0;
    for (int64_t tap = 0; tap < taps; ++tap) {
      int32_t tap_sum = 0;
      for (int64_t word = 0; word < group_words_; ++word) {
        const int64_t channel = word * 32, count = std::min<int64_t>(32, group_channels - channel);
        const uint32_t bits = row.every(taps, channel * taps + tap, count);
        plain[static_cast<size_t>((block * phase.words + tap * group_words_ + word) * lanes_ + lane)] = bits;
        const int32_t high = __builtin_popcount(bits), terms = static_cast<int32_t>(count);
        tap_sum += 2 * high - terms;
        base += description_.codes == BNN_SIGNED ? terms : high;  // as in fill_by_bit
      }
      phase.tap_sums[static_cast<size_t>((tap * blocks + block) * lanes_ + lane)] = tap_sum;
    }
    phase.base[static_cast<size_t>(block * lanes_ + lane)] = base;
  }
}

// A row of a transposed layer has the weights of one channel for all outputs: every bit goes to a lane of its own.
void Layer::fill_by_bit(const uint8_t* weight, const std::vector<TapPlace>& places, const std::vector<Seat>& seats,
                        std::vector<Buffer<uint32_t>>& plain) {
  const int64_t taps = volume(description_.window.kernel), blocks = static_cast<int64_t>(blocks_.size());
  const int64_t group_channels = description_.channels / description_.groups;
  const int64_t group_outputs = description_.outputs / description_.groups;
  const int64_t row_bytes = (group_outputs * taps + 7) / 8;
  for (int64_t channel = 0; channel < description_.channels; ++channel) {
    const uint8_t* bytes = weight + channel * row_bytes;
    const int64_t group = channel / group_channels, of_group = channel % group_channels;
    int64_t bit = 0;
    for (int64_t column = 0; column < group_outputs; ++column) {
      const auto [block, lane] = seats[static_cast<size_t>(group * group_outputs + column)];
      for (int64_t tap = 0; tap < taps; ++tap, ++bit) {
        const TapPlace place = places[static_cast<size_t>(tap)];
        Phase& phase = phases_[place.phase];
        const uint32_t high = bytes[bit / 8] >> (bit % 8) & 1u;
        const int64_t word = place.index * group_words_ + of_group / 32;
        plain[place.phase][static_cast<size_t>((block * phase.words + word) * lanes_ + lane)] |= high << (of_group % 32);
        phase.tap_sums[static_cast<size_t>((place.index * blocks + block) * lanes_ + lane)] += high ? 1 : -1;
        // Signed: z = terms - 2 * count. Unsigned: z = (number of +1 weights) - count.
        phase.base[static_cast<size_t>(block * lanes_ + lane)] += description_.codes == BNN_SIGNED ? 1 : static_cast<int32_t>(high);
      }
    }
  }
}

// Panels are first filled in their plain form, then brought into the form of the kernels.
void Layer::fill_phases(const uint8_t* weight) {
  const int64_t blocks = static_cast<int64_t>(blocks_.size());
  const std::vector<TapPlace> places = tap_places(phases_, description_.window.kernel);

  std::vector<Buffer<uint32_t>> plain;
  for (const Phase& phase : phases_) {
    plain.emplace_back(times(times(phase.words, lanes_), blocks));
    plain.back().clear();
  }
  std::vector<Seat> seat(static_cast<size_t>(description_.outputs));
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t lane = 0; lane < blocks_[b].valid; ++lane) seat[blocks_[b].first + lane] = {b, lane};
  }

  if (description_.transposed) {
    fill_by_bit(weight, places, seat, plain);
  } else {
    fill_by_word(weight, seat, plain.front());
  }
  for (size_t p = 0; p < phases_.size(); ++p) {
    Phase& phase = phases_[p];
    if (feed_ == Feed::lanes || kernels_->make_panel == nullptr) {
      phase.panels = std::move(plain[p]);
      continue;
    }
    phase.panels = Buffer<uint32_t>(times(phase.panel_words, blocks));
    for (int64_t b = 0; b < blocks; ++b) {
      kernels_->make_panel(plain[p].data() + b * phase.words * lanes_, phase.words, lanes_,
                           phase.panels.data() + b * phase.panel_words);
    }
  }
}

Sizes Layer::output_size(const Sizes& size) const {
  return description_.transposed ? transposed_output(description_.window, description_.output_pad, size)
                                 : conv_output(description_.window, size);
}

}  // namespace bnn
