#include "ort/operators.h"

#include "ort/inference.h"

namespace bnn::ort_ops {

namespace {

using Ports = std::vector<Port>;

const Port bits_in{"X", ort::kUint8}, weight{"weight", ort::kUint8};
const Port floats_out{"Y", ort::kFloat}, integers_out{"Y", ort::kInt32}, bits_out{"bits", ort::kUint8};

Ports joined(Ports first, const Ports& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Ports layer_inputs(const Ports& more) { return joined({bits_in, weight}, more); }

const Ports threshold{{"threshold", ort::kInt32}};
const Ports steps{{"scale", ort::kFloat},  {"bias", ort::kFloat},  {"residual", ort::kFloat},
                  {"before", ort::kFloat}, {"slope", ort::kFloat}, {"after", ort::kFloat}};
const Ports steps_and_next = joined(steps, {{"next", ort::kFloat}});
const Ports product{{"A", ort::kUint8}, {"B", ort::kUint8}};
const Ports product_steps = joined(product, {{"scale", ort::kFloat}, {"addend", ort::kFloat}});

}  // namespace

const std::vector<Operator>& operators() {
  constexpr bnn_layout first = BNN_CHANNELS_FIRST, last = BNN_CHANNELS_LAST;
  const auto layer = layer_inputs;
  static const std::vector<Operator> all{
      {"Pack", {{"X", ort::kFloat}, {"threshold", ort::kFloat}}, {bits_out}, BNN_BITS, last, make_pack, infer_pack},
      {"Unpack", {bits_in}, {floats_out}, BNN_FLOAT32, first, make_unpack, infer_unpack},
      {"BinaryConvInteger", layer({}), {integers_out}, BNN_INT32, first, make_conv, infer_conv},
      {"BinaryConvBits", layer(threshold), {bits_out}, BNN_BITS, last, make_conv, infer_conv},
      {"BinaryConvFloat", layer(steps), {floats_out}, BNN_FLOAT32, first, make_conv, infer_conv},
      {"BinaryConvFloatBits", layer(steps_and_next), {floats_out, bits_out}, BNN_FLOAT32, first, make_conv,
       infer_conv},
      {"BinaryConvFloatLast", layer(steps), {floats_out}, BNN_FLOAT32, last, make_conv, infer_conv},
      {"BinaryConvFloatBitsLast", layer(steps_and_next), {floats_out, bits_out}, BNN_FLOAT32, last, make_conv,
       infer_conv},
      {"BinaryDenseInteger", layer({}), {integers_out}, BNN_INT32, last, make_dense, infer_dense},
      {"BinaryDenseBits", layer(threshold), {bits_out}, BNN_BITS, last, make_dense, infer_dense},
      {"BinaryDenseFloat", layer(steps), {floats_out}, BNN_FLOAT32, last, make_dense, infer_dense},
      {"BinaryDenseFloatBits", layer(steps_and_next), {floats_out, bits_out}, BNN_FLOAT32, last, make_dense,
       infer_dense},
      {"BinaryMatMulInteger", product, {integers_out}, BNN_INT32, last, make_matmul, infer_matmul},
      {"BinaryMatMulFloat", product_steps, {floats_out}, BNN_FLOAT32, last, make_matmul, infer_matmul},
      {"BinaryMatMulBits", joined(product_steps, {{"threshold", ort::kFloat}}), {bits_out}, BNN_BITS, last,
       make_matmul, infer_matmul},
      {"BinaryMaxPool", {bits_in}, {bits_out}, BNN_BITS, last, make_maxpool, infer_maxpool},
      {"BinaryConvTransposeInteger", layer({}), {integers_out}, BNN_INT32, first, make_transposed, infer_transposed},
      {"BinaryConvTransposeBits", layer(threshold), {bits_out}, BNN_BITS, last, make_transposed, infer_transposed},
      {"BinaryConvTransposeFloat", layer(steps), {floats_out}, BNN_FLOAT32, first, make_transposed,
       infer_transposed},
  };
  return all;
}

}  // namespace bnn::ort_ops
