// Memory without constructors, aligned for any vector load.
#ifndef BNN_BUFFER_H
#define BNN_BUFFER_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace bnn {

template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) : count_(static_cast<size_t>(count)) {
    // Also where size_t has 32 bits.
    if (count < 0 || count > static_cast<int64_t>(PTRDIFF_MAX / sizeof(T))) throw std::bad_alloc();
    if (count > 0) data_ = static_cast<T*>(::operator new(count_ * sizeof(T), alignment));
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { ::operator delete(data_, alignment); }

  void clear() {
    if (count_ > 0) std::memset(static_cast<void*>(data_), 0, count_ * sizeof(T));
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return count_; }

 private:
  static constexpr std::align_val_t alignment{64};
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }
  T* data_ = nullptr;
  size_t count_ = 0;
};

}  // namespace bnn

#endif
