// The operators of docs/runtime.md.
#ifndef BNN_ORT_OPERATORS_H
#define BNN_ORT_OPERATORS_H

#include <memory>
#include <vector>

#include "ort/node.h"

namespace bnn::ort_ops {

constexpr const char* domain = "bnnapps";
constexpr int domain_version = 1;

const std::vector<Operator>& operators();

std::unique_ptr<Kernel> make_pack(const Info& info);
std::unique_ptr<Kernel> make_unpack(const Info& info);
std::unique_ptr<Kernel> make_conv(const Info& info);
std::unique_ptr<Kernel> make_transposed(const Info& info);
std::unique_ptr<Kernel> make_dense(const Info& info);
std::unique_ptr<Kernel> make_matmul(const Info& info);
std::unique_ptr<Kernel> make_maxpool(const Info& info);

}  // namespace bnn::ort_ops

#endif
