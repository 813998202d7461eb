// Fitting a layer to the size of its input.
#include "fit.h"

#include <algorithm>
#include <string>

#include "failure.h"

namespace bnn {

namespace {

// All combinations of one axis per dimension, in the order of the layer's phases.
std::vector<std::array<Axis, most_dimensions>> phase_axes(const Layer::Description& description, const Sizes& size,
                                                          const Sizes& output) {
  std::array<std::vector<Axis>, most_dimensions> axes;
  for (int d = 0; d < most_dimensions; ++d) {
    if (description.transposed) {
      axes[d] = transposed_axes(description.window, d, size[d], output[d]);
    } else {
      axes[d] = {conv_axis(description.window, d, size[d], output[d])};
    }
  }
  std::vector<std::array<Axis, most_dimensions>> result;
  for (const Axis& first : axes[0]) {
    for (const Axis& second : axes[1]) {
      for (const Axis& third : axes[2]) result.push_back({first, second, third});
    }
  }
  return result;
}

// Offsets of the taps in words, with neighbouring taps of the last dimension joined where their words are contiguous.
void make_runs(PhaseFit& fit, const Sizes& padded, int64_t position_words, int64_t words, bool contiguous) {
  const std::vector<int64_t>& last = fit.axes[2].offset;
  bool join = contiguous && last.size() > 1;
  for (size_t t = 1; t < last.size(); ++t) join = join && last[t] == last[t - 1] + 1;
  const size_t step = join ? last.size() : 1;
  fit.run_words = words * static_cast<int64_t>(step);
  for (int64_t a : fit.axes[0].offset) {
    for (int64_t b : fit.axes[1].offset) {
      for (size_t t = 0; t < last.size(); t += step) {
        fit.runs.push_back(((a * padded[1] + b) * padded[2] + last[t]) * position_words);
      }
    }
  }
}

// A tap that falls outside was counted as a low code; what it should have added instead is `factor` times the sum of
// its weights more.
void make_base(PhaseFit& fit, const Phase& phase, int64_t factor) {
  const size_t entries = phase.base.size();
  if (factor == 0) {
    for (int d = 0; d < most_dimensions; ++d) {
      fit.classes[d] = 1;
      std::fill(fit.axes[d].border.begin(), fit.axes[d].border.end(), 0);
    }
  }
  fit.base = Buffer<int32_t>(times(fit.class_count(), static_cast<int64_t>(entries)));
  int32_t* base = fit.base.data();
  for (int64_t a = 0; a < fit.classes[0]; ++a) {
    for (int64_t b = 0; b < fit.classes[1]; ++b) {
      for (int64_t c = 0; c < fit.classes[2]; ++c, base += entries) {
        std::copy_n(phase.base.data(), entries, base);
        if (factor == 0) continue;
        const int32_t* sums = phase.tap_sums.data();
        for (uint8_t first : fit.axes[0].outside[static_cast<size_t>(a)]) {
          for (uint8_t second : fit.axes[1].outside[static_cast<size_t>(b)]) {
            for (uint8_t third : fit.axes[2].outside[static_cast<size_t>(c)]) {
              if (first || second || third) {
                for (size_t i = 0; i < entries; ++i) base[i] += static_cast<int32_t>(factor) * sums[i];
              }
              sums += entries;
            }
          }
        }
      }
    }
  }
}

// Brings a finished base into the form of the strips.
void prepare(PhaseFit& fit, int64_t entries, int shift) {
  const int64_t count = static_cast<int64_t>(fit.base.size());
  fit.start = Buffer<int32_t>(count);
  if (shift > 0) fit.odd = Buffer<int32_t>(count);
  for (size_t i = 0; i < fit.base.size(); ++i) {
    fit.start[i] = fit.base[i] >> shift;
    if (shift > 0) fit.odd[i] = fit.base[i] & 1;
  }
  for (int d = most_dimensions - 1; d >= 0; --d) {
    for (int64_t& border : fit.axes[d].border) border *= entries;
    entries *= fit.classes[d];
  }
}

}  // namespace

void PhaseFit::place(const Sizes& padded, const Sizes& before, const Sizes& output, int64_t words, int64_t first,
                     int64_t count, Position* to) const {
  const auto& [a, b, c] = axes;
  int64_t i = first / (b.count() * c.count()), j = first / c.count() % b.count(), k = first % c.count();
  for (; count > 0; --count, ++to) {
    const int64_t x = ((a.start[i] + before[0]) * padded[1] + b.start[j] + before[1]) * padded[2] + c.start[k] + before[2];
    const int64_t y = (a.place[i] * output[1] + b.place[j]) * output[2] + c.place[k];
    *to = {static_cast<int32_t>(x * words), static_cast<int32_t>(y),
           static_cast<int32_t>(a.border[i] + b.border[j] + c.border[k])};
    if (++k == c.count()) k = 0, ++j;
    if (j == b.count()) j = 0, ++i;
  }
}

std::shared_ptr<const Fit> Layer::new_fit(const Sizes& size) const {
  auto fit = std::make_shared<Fit>();
  fit->size = size;
  fit->output = output_size(size);
  fit->before = {0, 0, 0};
  Sizes behind{0, 0, 0};
  auto axes = phase_axes(description_, size, fit->output);
  for (const auto& phase : axes) {
    if (phase[0].count() * phase[1].count() * phase[2].count() == 0) continue;
    for (int d = 0; d < most_dimensions; ++d) {
      fit->before[d] = std::max(fit->before[d], phase[d].reach_before());
      behind[d] = std::max(behind[d], phase[d].reach_behind(size[d]));
    }
  }
  for (int d = 0; d < most_dimensions; ++d) fit->padded[d] = plus(size[d], plus(fit->before[d], behind[d]));
  fit->copies = feed_ != Feed::whole || fit->padded != size;
  fit->pointwise = !fit->copies && !description_.transposed && volume(description_.window.kernel) == 1 &&
                   volume(description_.window.stride) == 1;
  const int64_t words = times(volume(fit->padded), words_per_position());
  for (const int64_t size : {words, volume(fit->output)}) {
    if (size <= most_window) continue;
    throw Failure{BNN_UNSUPPORTED, "an image has " + std::to_string(words) + " words with its padding and " +
                                       std::to_string(volume(fit->output)) + " outputs, of which " +
                                       std::to_string(most_window) + " can be addressed"};
  }

  const int64_t low = description_.codes == BNN_SIGNED ? -1 : 0;
  const int64_t factor = (description_.transposed ? 0 : description_.pad_value) - low;
  for (size_t p = 0; p < phases_.size(); ++p) {
    PhaseFit phase;
    phase.axes = std::move(axes[p]);
    for (int d = 0; d < most_dimensions; ++d) phase.classes[d] = static_cast<int64_t>(phase.axes[d].outside.size());
    if (phase.outputs() > 0) {
      make_runs(phase, fit->padded, words_per_position(), group_words_,
                feed_ == Feed::whole && description_.groups == 1);
      make_base(phase, phases_[p], factor);
      phase.is_all = phase.outputs() == volume(fit->output);
      prepare(phase, static_cast<int64_t>(phases_[p].base.size()), description_.codes == BNN_SIGNED);
      constexpr int64_t most_kept = 1 << 14;
      if (phase.outputs() <= most_kept && !fit->pointwise) {
        phase.positions.resize(static_cast<size_t>(phase.outputs()));
        phase.place(fit->padded, fit->before, fit->output, words_per_position(), 0, phase.outputs(), phase.positions.data());
      }
    }
    fit->phases.push_back(std::move(phase));
  }
  return fit;
}

std::shared_ptr<const Fit> Layer::fit(const Sizes& size) const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& known : fits_) {
      if (known.first == size) return known.second;
    }
  }
  auto made = new_fit(size);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (fits_.size() == most_fits) fits_.erase(fits_.begin());
  fits_.emplace_back(size, made);
  return made;
}

}  // namespace bnn
