// Copying packed activations into the form that the strips read.
#ifndef BNN_FEED_H
#define BNN_FEED_H

#include <cstdint>

#include "bnn.h"
#include "fit.h"

namespace bnn {

struct FeedShape {
  Feed feed;
  int64_t channels, outputs, groups, group_words;
  int64_t position_words;  // of the copy
};

// Fills `to` [batch, padded..., position_words]; positions outside the input become 0.
void feed_input(const FeedShape& shape, const Fit& fit, const uint32_t* bits, int64_t batch, uint32_t* to,
                const bnn_pool* pool);

}  // namespace bnn

#endif
