// A libFuzzer target: nodes of every operator, mostly good ones of which a few attributes or inputs are then spoilt.
//
// Beside what the sanitizers see it holds a node to this: a refusal has a message; whatever the order of the tasks and
// whether its weight is constant or not, a run computes the same; an inferred shape is the shape of the output.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "mock_runtime.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC sees the free below and not the malloc that belongs to it.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

// Sizes that no machine has fail here as they do there, rather than in the sanitizer's own operator new.
namespace {
void* bounded(std::size_t bytes, std::size_t alignment) {
  if (bytes > (std::size_t{1} << 28)) throw std::bad_alloc();
  const std::size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* memory = alignment <= alignof(std::max_align_t) ? std::malloc(bytes == 0 ? 1 : bytes)
                                                        : std::aligned_alloc(alignment, whole == 0 ? alignment : whole);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace
void* operator new(std::size_t bytes) { return bounded(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return bounded(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
// What libFuzzer itself has allocated by another operator new comes to the operator delete above.
extern "C" const char* __asan_default_options() { return "alloc_dealloc_mismatch=0"; }

namespace {

using mock::Node;
using mock::Shape;
using mock::Tensor;

// The fuzzer's bytes as choices; zeros when they have run out.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t byte() { return place_ < size_ ? data_[place_++] : 0; }
  int64_t below(int64_t count) { return byte() % count; }
  int64_t between(int64_t first, int64_t last) { return first + below(last - first + 1); }
  int64_t of(std::initializer_list<int64_t> values) { return values.begin()[below(static_cast<int64_t>(values.size()))]; }
  Shape several(int64_t count, int64_t first, int64_t last) {
    Shape values;
    for (int64_t i = 0; i < count; ++i) values.push_back(between(first, last));
    return values;
  }
  bool left() const { return place_ < size_; }

 private:
  const uint8_t* data_;
  size_t size_, place_ = 0;
};

[[noreturn]] void broken(const char* what, const Node& node) {
  std::fprintf(stderr, "%s: %s\n", node.op->GetName(node.op), what);
  std::abort();
}

int64_t bytes_of_bits(int64_t bits) { return (bits + 7) / 8; }
int64_t packed(int64_t channels) { return (channels + 31) / 32 * 4; }

void windows(Choices& choices, Node& node, int64_t rank) {
  node.lists["kernel_shape"] = choices.several(rank, 1, 3);
  node.lists["strides"] = choices.several(rank, 1, 3);
  node.lists["dilations"] = choices.several(rank, 1, 2);
  node.lists["pads"] = choices.several(2 * rank, 0, 2);
}

// The inputs behind X and the weight, for outputs of that shape.
void epilogue(Choices& choices, Node& node, int64_t outputs, const Shape& shape) {
  const size_t count = node.op->GetInputTypeCount(node.op);
  for (size_t i = 2; i < count; ++i) {
    const bool residual = i == 4;
    const bool whole = count == 3 || choices.below(2) == 1;
    node.inputs[i].shape = !whole ? Shape{1} : residual ? shape : Shape{outputs};
  }
}

void layer(Choices& choices, Node& node, bool transposed, bool last) {
  const int64_t rank = choices.between(1, 3), group = choices.of({1, 1, 2, 3});
  const int64_t channels = group * choices.of({1, 3, 8, 20, 32, 33}), outputs = group * choices.of({1, 5, 16, 33});
  windows(choices, node, rank);
  node.integers["group"] = group;
  node.lists["channels"] = {channels};
  node.reals["low"] = choices.below(2) == 0 ? -1.0f : 0.0f;
  node.reals["pad_value"] = static_cast<float>(choices.between(node.reals["low"] < 0 ? -1 : 0, 1));
  int64_t taps = 1;
  for (const int64_t size : node.lists["kernel_shape"]) taps *= size;
  Shape shape{choices.between(0, 2)};
  node.inputs[0].shape = shape;
  if (transposed) {
    node.lists["outputs"] = {outputs};
    for (int64_t d = 0; d < rank; ++d) {
      node.lists["output_padding"].push_back(choices.below(node.lists["strides"][static_cast<size_t>(d)]));
    }
    node.inputs[1].shape = {channels, bytes_of_bits(outputs / group * taps)};
  } else {
    node.inputs[1].shape = {outputs, bytes_of_bits(channels / group * taps)};
  }
  if (!last) shape.push_back(outputs);
  for (int64_t i = 0; i < rank; ++i) {
    const auto d = static_cast<size_t>(i);
    const int64_t size = choices.between(1, rank == 3 ? 4 : 7);
    const int64_t pads = node.lists["pads"][d] + node.lists["pads"][d + static_cast<size_t>(rank)];
    const int64_t reach = node.lists["dilations"][d] * (node.lists["kernel_shape"][d] - 1) + 1;
    const int64_t stride = node.lists["strides"][d];
    node.inputs[0].shape.push_back(size);
    shape.push_back(transposed ? stride * (size - 1) + reach + node.lists["output_padding"][d] - pads
                               : (size + pads - reach) / stride + 1);
  }
  node.inputs[0].shape.push_back(packed(channels));
  if (last) shape.push_back(outputs);
  epilogue(choices, node, outputs, shape);
}

void dense(Choices& choices, Node& node) {
  const int64_t terms = choices.of({1, 8, 31, 32, 33, 100}), outputs = choices.of({1, 5, 16, 33});
  node.lists["channels"] = {terms};
  node.reals["low"] = choices.below(2) == 0 ? -1.0f : 0.0f;
  Shape shape = choices.several(choices.below(4), 0, 4);
  node.inputs[0].shape = shape;
  node.inputs[0].shape.push_back(packed(terms));
  node.inputs[1].shape = {outputs, bytes_of_bits(terms)};
  shape.push_back(outputs);
  epilogue(choices, node, outputs, shape);
}

void matmul(Choices& choices, Node& node) {
  const int64_t terms = choices.of({1, 31, 32, 33, 64}), m = choices.between(0, 9), n = choices.between(0, 40);
  node.reals["low"] = choices.below(2) == 0 ? -1.0f : 0.0f;
  node.lists["channels"] = {node.reals["low"] == 0.0f && choices.below(2) == 0 ? 0 : terms};
  const Shape lead = choices.several(choices.below(3), 0, 3);
  Shape full = lead;
  node.inputs[0].shape = node.inputs[1].shape = lead;
  for (const int64_t size : {m, packed(terms)}) node.inputs[0].shape.push_back(size);
  for (const int64_t size : {n, packed(terms)}) node.inputs[1].shape.push_back(size);
  full.push_back(m);
  full.push_back(n);
  for (size_t i = 2; i < node.inputs.size(); ++i) node.inputs[i].shape = {1};
  if (node.inputs.size() > 3) {
    for (int64_t& size : full) size = choices.below(3) == 0 ? 1 : size;
    full.erase(full.begin(), full.begin() + choices.below(static_cast<int64_t>(full.size()) + 1));
    node.inputs[3].shape = full;
  }
}

void pool(Choices& choices, Node& node) {
  const int64_t rank = choices.between(1, 3), channels = choices.of({1, 32, 33, 100});
  windows(choices, node, rank);
  node.lists["channels"] = {channels};
  node.inputs[0].shape = choices.several(rank + 1, 1, 6);
  node.inputs[0].shape.push_back(packed(channels));
}

void pack(Choices& choices, Node& node, bool unpacks) {
  Shape shape = choices.several(choices.between(1, 5), 0, 5);
  const int64_t axis = choices.below(static_cast<int64_t>(shape.size())), channels = choices.of({1, 8, 31, 32, 33, 70});
  node.integers["axis"] = axis;
  if (unpacks) {
    node.lists["channels"] = {channels};
    node.reals["low"] = choices.below(2) == 0 ? -1.0f : 0.0f;
    shape.back() = packed(channels);
  } else {
    shape[static_cast<size_t>(axis)] = channels;
    node.inputs[1].shape = {choices.below(2) == 0 ? 1 : channels};
  }
  node.inputs[0].shape = shape;
}

int64_t nasty(Choices& choices) {
  constexpr int64_t one = 1;
  return choices.of({0, -1, 1, 2, 3, 4, 7, 31, 32, 33, 64, 255, one << 15, (one << 31) - 1, one << 31, one << 32,
                     one << 40, one << 61, one << 62, std::numeric_limits<int64_t>::max(),
                     std::numeric_limits<int64_t>::min(), -(one << 31)});
}

void spoil_attribute(Choices& choices, Node& node) {
  const auto lists = static_cast<int64_t>(node.lists.size()), integers = static_cast<int64_t>(node.integers.size()),
             reals = static_cast<int64_t>(node.reals.size());
  if (lists + integers + reals == 0) return;
  const int64_t which = choices.below(lists + integers + reals);
  const int64_t how = choices.below(6);
  if (which < lists) {
    const auto found = std::next(node.lists.begin(), which);
    Shape& values = found->second;
    if (how == 0) node.lists.erase(found);
    else if (how == 1) values.push_back(nasty(choices));
    else if (how == 2 && !values.empty()) values.pop_back();
    else if (!values.empty()) values[static_cast<size_t>(choices.below(static_cast<int64_t>(values.size())))] = nasty(choices);
  } else if (which < lists + integers) {
    const auto found = std::next(node.integers.begin(), which - lists);
    if (how == 0) node.integers.erase(found);
    else found->second = nasty(choices);
  } else {
    const auto found = std::next(node.reals.begin(), which - lists - integers);
    if (how == 0) node.reals.erase(found);
    else found->second = how == 1 ? std::nanf("") : static_cast<float>(nasty(choices));
  }
}

void spoil_input(Choices& choices, Node& node) {
  Shape& shape = node.inputs[static_cast<size_t>(choices.below(static_cast<int64_t>(node.inputs.size())))].shape;
  const int64_t how = choices.below(3);
  if (how == 0 || shape.empty()) shape.insert(shape.begin(), choices.between(0, 3));
  else if (how == 1) shape.erase(shape.begin() + choices.below(static_cast<int64_t>(shape.size())));
  else shape[static_cast<size_t>(choices.below(static_cast<int64_t>(shape.size())))] = choices.between(0, 80);
}

// Contents that need no more of the fuzzer's bytes than a seed.
void fill(Tensor& tensor, uint32_t seed) {
  uint32_t state = seed * 2654435761u + 1;
  const auto next = [&] { return state = state * 1664525u + 1013904223u; };
  const int64_t count = tensor.count();
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = next() >> 8;
    if (tensor.type == ort::kUint8) tensor.data()[i] = static_cast<unsigned char>(bits);
    if (tensor.type == ort::kInt32) reinterpret_cast<int32_t*>(tensor.data())[i] = static_cast<int32_t>(bits % 65) - 32;
    if (tensor.type == ort::kFloat) {
      const float value = seed % 5 == 0 ? 0.0f : seed % 5 == 1 ? 1.0f : static_cast<float>(bits % 257) / 64.0f - 2.0f;
      reinterpret_cast<float*>(tensor.data())[i] = seed == 255 && bits % 7 == 0 ? std::nanf("") : value;
    }
  }
}

bool same(const Tensor& a, const Tensor& b) {
  if (a.shape != b.shape || a.memory.size() != b.memory.size()) return false;
  if (a.type != ort::kFloat) return a.memory == b.memory;
  const auto* x = reinterpret_cast<const float*>(a.memory.data());
  const auto* y = reinterpret_cast<const float*>(b.memory.data());
  for (int64_t i = 0; i < a.count(); ++i) {
    if (x[i] != y[i] && !(std::isnan(x[i]) && std::isnan(y[i]))) return false;
  }
  return true;
}

// Creates and runs the node; an empty message if that went well.
std::string run(Node& node) {
  void* kernel = nullptr;
  std::string message = node.create(&kernel);
  if (!message.empty()) return message;
  message = node.compute(kernel);
  node.op->KernelDestroy(kernel);
  return message;
}

void check_shapes(const Node& node) {
  for (const auto& [index, shape] : node.inferred) {
    const Shape& real = node.outputs[index].shape;
    if (shape.size() != real.size()) broken("the inferred rank is wrong", node);
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] >= 0 && shape[i] != real[i]) broken("an inferred size is wrong", node);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  Node node;
  node.op = mock::operators()[static_cast<size_t>(choices.below(static_cast<int64_t>(mock::operators().size())))];
  node.inputs.resize(node.op->GetInputTypeCount(node.op));
  const std::string name = node.op->GetName(node.op);
  const auto begins = [&](const char* prefix) { return name.rfind(prefix, 0) == 0; };
  const bool last = name.size() > 4 && name.compare(name.size() - 4, 4, "Last") == 0;
  if (begins("BinaryConv")) layer(choices, node, begins("BinaryConvTranspose"), last);
  else if (begins("BinaryDense")) dense(choices, node);
  else if (begins("BinaryMatMul")) matmul(choices, node);
  else if (begins("BinaryMaxPool")) pool(choices, node);
  else pack(choices, node, begins("Unpack"));
  for (int64_t spoilt = choices.below(4); spoilt > 0 && choices.left(); --spoilt) {
    if (choices.below(2) == 0) spoil_attribute(choices, node);
    else spoil_input(choices, node);
  }
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    Tensor& tensor = node.inputs[i];
    tensor.type = node.op->GetInputType(node.op, i);
    tensor.offset = tensor.type == ort::kUint8 ? static_cast<size_t>(choices.below(2)) : 0;
    if (!tensor.allocate(true)) return 0;
    fill(tensor, choices.byte());
    node.constant.push_back(i > 0 && choices.below(4) != 0);
    node.symbolic.push_back(choices.below(2) != 0);
  }

  if (!node.infer().empty()) broken("shape inference failed", node);
  if (!run(node).empty()) return 0;
  check_shapes(node);
  const std::vector<Tensor> outputs = node.outputs;
  node.backwards = true;
  node.constant.assign(node.inputs.size(), false);
  if (!run(node).empty()) broken("a node with constant inputs runs, but not with fed ones", node);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!same(outputs[i], node.outputs[i])) broken("constant and fed inputs give different outputs", node);
  }
  return 0;
}
