#include "failure.h"

#include <cstdio>

namespace {
// A fixed buffer: reporting that there is no memory must not need any.
thread_local char last_message[512] = "";
}  // namespace

namespace bnn {

bnn_status report(bnn_status status, const char* where, const char* message) noexcept {
  std::snprintf(last_message, sizeof last_message, "%s: %s", where, message);
  return status;
}

}  // namespace bnn

extern "C" {

int32_t bnn_version(void) { return BNN_VERSION; }

const char* bnn_last_error(void) { return last_message; }

size_t bnn_words(size_t channels) { return channels / 32 + (channels % 32 != 0); }
}
