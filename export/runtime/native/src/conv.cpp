// The C interface to layers with constant weights.
#include <memory>
#include <string>

#include <algorithm>
#include "failure.h"
#include "layer.h"

struct bnn_conv {
  bnn::Layer layer;
};

struct bnn_dense {
  bnn::Layer layer;
};

struct bnn_transposed {
  bnn::Layer layer;
};

namespace bnn {

namespace {

template <typename Pointer>
void require_given(const Pointer* pointer, const char* name) {
  require(pointer != nullptr, [&] { return std::string(name) + " is null"; });
}

Layer::Description described(const bnn_conv_shape& s) {
  const Window window = checked_window(s.rank, s.kernel, s.stride, s.dilation, s.pad_begin, s.pad_end);
  return {window, s.channels, s.outputs, s.groups, s.pad_value, s.codes, false, {0, 0, 0}};
}

Layer::Description described(const bnn_transposed_shape& s) {
  const Window window = checked_window(s.rank, s.kernel, s.stride, s.dilation, s.pad_begin, s.pad_end);
  Layer::Description description{window, s.channels, s.outputs, s.groups, 0, s.codes, true, {0, 0, 0}};
  // The outputs of each remainder modulo the strides have taps, and so tables, of their own.
  constexpr int64_t most_phases = 4096;
  const int64_t phases = volume(window.stride);
  if (phases > most_phases) {
    throw Failure{BNN_UNSUPPORTED, "the strides multiply to " + std::to_string(phases) + ", more than " +
                                       std::to_string(most_phases)};
  }
  for (int d = 0; d < window.rank; ++d) {
    const int64_t longer = s.output_pad[d];
    require(longer >= 0 && longer < std::max(s.stride[d], s.dilation[d]), [&] {
      return "output_pad[" + std::to_string(d) + "] is " + std::to_string(longer) +
             ", not from 0 to below the stride or the dilation";
    });
    description.output_pad[window.first() + d] = longer;
  }
  return description;
}

Layer::Description described(int64_t terms, int64_t outputs, bnn_codes codes) {
  const Window window{1, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}};
  return {window, terms, outputs, 1, 0, codes, false, {0, 0, 0}};
}

template <typename Object>
void create(const Layer::Description& description, const uint8_t* weight, size_t bytes, Object** object) {
  *object = new Object{Layer(description, weight, bytes)};
}

void output_size(const Layer& layer, const int64_t* size, int64_t* output) {
  require_given(output, "output");
  give_size(layer.window(), layer.output_size(checked_size(layer.window().rank, size)), output);
}

void run(const Layer& layer, const uint32_t* bits, int64_t batch, const int64_t* size, const bnn_epilogue* epilogue,
         const bnn_pool* pool) {
  require_given(epilogue, "epilogue");
  layer.run(bits, batch, checked_size(layer.window().rank, size), *epilogue, pool);
}

// The rows of a dense layer are the positions of one line.
void run_rows(const Layer& layer, const uint32_t* bits, int64_t rows, const bnn_epilogue* epilogue,
              const bnn_pool* pool) {
  require_given(epilogue, "epilogue");
  require(rows >= 0, [&] { return "rows is " + std::to_string(rows) + ", negative"; });
  bnn_epilogue last = *epilogue;
  last.layout = BNN_CHANNELS_LAST;
  // As images of one position each, so that one table serves every number of rows.
  layer.run(bits, rows, {1, 1, 1}, last, pool);
}

}  // namespace

}  // namespace bnn

extern "C" {

bnn_status bnn_conv_create(const bnn_conv_shape* shape, const uint8_t* weight, size_t weight_bytes, bnn_conv** conv) {
  return bnn::guarded("bnn_conv_create", [&] {
    bnn::require_given(shape, "shape");
    bnn::require_given(conv, "conv");
    bnn::create(bnn::described(*shape), weight, weight_bytes, conv);
  });
}

void bnn_conv_destroy(bnn_conv* conv) { delete conv; }

bnn_status bnn_conv_output_size(const bnn_conv* conv, const int64_t* size, int64_t* output) {
  return bnn::guarded("bnn_conv_output_size", [&] {
    bnn::require_given(conv, "conv");
    bnn::output_size(conv->layer, size, output);
  });
}

bnn_status bnn_conv_run(const bnn_conv* conv, const uint32_t* bits, int64_t batch, const int64_t* size,
                        const bnn_epilogue* epilogue, const bnn_pool* pool) {
  return bnn::guarded("bnn_conv_run", [&] {
    bnn::require_given(conv, "conv");
    bnn::run(conv->layer, bits, batch, size, epilogue, pool);
  });
}

bnn_status bnn_dense_create(int64_t terms, int64_t outputs, bnn_codes codes, const uint8_t* weight,
                            size_t weight_bytes, bnn_dense** dense) {
  return bnn::guarded("bnn_dense_create", [&] {
    bnn::require_given(dense, "dense");
    bnn::create(bnn::described(terms, outputs, codes), weight, weight_bytes, dense);
  });
}

void bnn_dense_destroy(bnn_dense* dense) { delete dense; }

bnn_status bnn_dense_run(const bnn_dense* dense, const uint32_t* bits, int64_t rows, const bnn_epilogue* epilogue,
                         const bnn_pool* pool) {
  return bnn::guarded("bnn_dense_run", [&] {
    bnn::require_given(dense, "dense");
    bnn::run_rows(dense->layer, bits, rows, epilogue, pool);
  });
}

bnn_status bnn_conv2d(const bnn_conv_shape* shape, const uint8_t* weight, size_t weight_bytes, const uint32_t* bits,
                      int64_t batch, const int64_t* size, const bnn_epilogue* epilogue, const bnn_pool* pool) {
  return bnn::guarded("bnn_conv2d", [&] {
    bnn::require_given(shape, "shape");
    bnn::require(shape->rank == 2, [&] { return "rank is " + std::to_string(shape->rank) + ", not 2"; });
    bnn::run(bnn::Layer(bnn::described(*shape), weight, weight_bytes), bits, batch, size, epilogue, pool);
  });
}

bnn_status bnn_dense_once(int64_t terms, int64_t outputs, bnn_codes codes, const uint8_t* weight, size_t weight_bytes,
                          const uint32_t* bits, int64_t rows, const bnn_epilogue* epilogue, const bnn_pool* pool) {
  return bnn::guarded("bnn_dense_once", [&] {
    bnn::run_rows(bnn::Layer(bnn::described(terms, outputs, codes), weight, weight_bytes), bits, rows, epilogue, pool);
  });
}

bnn_status bnn_transposed_create(const bnn_transposed_shape* shape, const uint8_t* weight, size_t weight_bytes,
                                 bnn_transposed** conv) {
  return bnn::guarded("bnn_transposed_create", [&] {
    bnn::require_given(shape, "shape");
    bnn::require_given(conv, "conv");
    bnn::create(bnn::described(*shape), weight, weight_bytes, conv);
  });
}

void bnn_transposed_destroy(bnn_transposed* conv) { delete conv; }

bnn_status bnn_transposed_output_size(const bnn_transposed* conv, const int64_t* size, int64_t* output) {
  return bnn::guarded("bnn_transposed_output_size", [&] {
    bnn::require_given(conv, "conv");
    bnn::output_size(conv->layer, size, output);
  });
}

bnn_status bnn_transposed_run(const bnn_transposed* conv, const uint32_t* bits, int64_t batch, const int64_t* size,
                              const bnn_epilogue* epilogue, const bnn_pool* pool) {
  return bnn::guarded("bnn_transposed_run", [&] {
    bnn::require_given(conv, "conv");
    bnn::run(conv->layer, bits, batch, size, epilogue, pool);
  });
}
}
