// Failures inside the library, and how they become statuses at the C interface.
#ifndef BNN_FAILURE_H
#define BNN_FAILURE_H

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "bnn.h"

namespace bnn {

struct Failure {
  bnn_status status;
  std::string message;
};

// Throws unless `condition` holds. The message is put together only when it is needed.
template <typename Message>
inline void require(bool condition, Message message) {
  if (!condition) throw Failure{BNN_INVALID_ARGUMENT, message()};
}

// Products and sums of sizes; they throw where the result does not fit.
inline int64_t times(int64_t a, int64_t b) {
  int64_t result;
  if (__builtin_mul_overflow(a, b, &result)) throw Failure{BNN_INVALID_ARGUMENT, "a size overflows 64 bits"};
  return result;
}
inline int64_t plus(int64_t a, int64_t b) {
  int64_t result;
  if (__builtin_add_overflow(a, b, &result)) throw Failure{BNN_INVALID_ARGUMENT, "a size overflows 64 bits"};
  return result;
}

// Copies that are this many times as large as what the caller holds come from absurd sizes, not from networks.
inline void require_proportionate(int64_t bytes, int64_t given, const char* what) {
  constexpr int64_t always = int64_t{1} << 28, most_times = 64;
  if (bytes <= always || bytes / most_times <= given) return;
  throw Failure{BNN_UNSUPPORTED, std::string(what) + " would take " + std::to_string(bytes) + " bytes, more than " +
                                     std::to_string(most_times) + " times the " + std::to_string(given) +
                                     " bytes that it is for"};
}

// Leaves the message for bnn_last_error() and returns the status.
bnn_status report(bnn_status status, const char* where, const char* message) noexcept;

// Runs the body of a function of the C interface: no exception leaves it.
template <typename Body>
bnn_status guarded(const char* where, Body body) noexcept {
  try {
    body();
    return BNN_OK;
  } catch (const Failure& failure) {
    return report(failure.status, where, failure.message.c_str());
  } catch (const std::bad_alloc&) {
    return report(BNN_OUT_OF_MEMORY, where, "out of memory");
  } catch (const std::length_error&) {
    return report(BNN_OUT_OF_MEMORY, where, "out of memory");
  } catch (const std::exception& problem) {
    return report(BNN_INVALID_ARGUMENT, where, problem.what());
  } catch (...) {
    return report(BNN_INVALID_ARGUMENT, where, "unknown failure");
  }
}

}  // namespace bnn

#endif
