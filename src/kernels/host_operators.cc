#include "kernels/host_operators.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/assert.h"

namespace pixii::kernels {

void HostOperators::Upload(std::span<const std::byte> from, void* to) {
  std::memcpy(to, from.data(), from.size());
}

void HostOperators::Download(const void* from, std::span<std::byte> to) {
  if (from != to.data()) {
    std::memcpy(to.data(), from, to.size());
  }
}

void HostOperators::FindNonFinite(const Matrix& in, std::span<std::int32_t> flags) {
  PX_ASSERT(in.rows == std::ssize(flags));
  constexpr std::uint32_t kExponent = 0x7F800000;  // all ones: infinity or NaN
  for (std::int64_t row = 0; row < in.rows; ++row) {
    const float* values = in.f32(row);
    std::uint32_t bad = 0;
    for (std::int64_t i = 0; i < in.cols; ++i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, values + i, sizeof(bits));
      bad |= static_cast<std::uint32_t>((bits & kExponent) == kExponent);
    }
    flags[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(bad);
  }
}

Result<Buffer> AllocateFilled(Operators& operators, std::size_t size_bytes,
                              const std::function<void(void* host)>& fill) {
  PX_TRY(Buffer buffer, operators.Allocate(size_bytes));
  if (operators.on_host()) {
    fill(buffer.data());
    return buffer;
  }
  std::vector<std::byte> host(size_bytes);
  fill(host.data());
  operators.Upload(host, buffer.data());
  return buffer;
}

std::int64_t RowsOfRun(const Matrix& x, std::span<const float> factors) {
  const std::int64_t runs = std::ssize(factors) / x.cols;
  PX_ASSERT(runs >= 1 && std::ssize(factors) == runs * x.cols && x.rows % runs == 0);
  return std::max<std::int64_t>(x.rows / runs, 1);
}

void CheckConvolution(const Matrix& in, const ConvolutionShape& shape, const LinearWeight& weight,
                      const Matrix& out) {
  PX_ASSERT(shape.stride > 0 && shape.stride_frames > 0 && shape.upscale > 0);
  PX_ASSERT(in.rows == shape.in.pixels() && out.rows == shape.out().pixels());
  PX_ASSERT(shape.in.frames >= shape.kernel.frames && shape.out().height > 0 &&
            shape.out().width > 0);
  PX_ASSERT(shape.kernel.pixels() * in.cols == weight.in_features() &&
            out.cols == weight.out_features());
}

double AttentionPairs(const StepView& batch, const AttentionOptions& options) {
  double pairs = 0;
  for (const StepSequence& sequence : batch.sequences) {
    const std::int64_t context = sequence.context_tokens;
    const std::int64_t window = options.window_tokens > 0 ? options.window_tokens : context;
    for (std::int64_t at = context - sequence.token_count; at < context; ++at) {
      const std::int64_t first = std::max<std::int64_t>(0, at - window + 1);
      const std::int64_t last = options.bidirectional ? std::min(context, at + window) : at + 1;
      pairs += static_cast<double>(
          options.bidirectional && options.window_tokens == 0 ? context : last - first);
    }
  }
  return pairs;
}

void CheckAttention(const Matrix& q, const StepView& batch, const KvLayout& layout,
                    const AttentionOptions& options, const Matrix& out) {
  PX_ASSERT(options.kv_head_count > 0 && options.head_count % options.kv_head_count == 0);
  PX_ASSERT(options.kv_head_count == layout.kv_head_count);
  PX_ASSERT(options.key_dim == layout.key_dim && options.value_dim == layout.value_dim);
  PX_ASSERT(options.key_dim > 0 && options.key_dim <= kHeadDimMax);
  PX_ASSERT(options.value_dim > 0 && options.value_dim <= kHeadDimMax);
  PX_ASSERT(!layout.value_in_key || options.value_dim <= options.key_dim);
  PX_ASSERT(options.position_bias == nullptr ||
            (options.bidirectional && options.window_tokens == 0 && options.soft_cap == 0.0F));
  PX_ASSERT(!options.bidirectional || batch.mutual_rows.empty());
  const bool whole =
      options.position_bias != nullptr || (options.bidirectional && options.window_tokens > 0);
  PX_ASSERT(q.cols == std::int64_t{options.head_count} * options.key_dim);
  PX_ASSERT(out.cols == std::int64_t{options.head_count} * options.value_dim);
  for (const StepSequence& sequence : batch.sequences) {
    PX_ASSERT(sequence.token_count >= 1 && sequence.context_tokens >= 1);
    PX_ASSERT(options.bidirectional || sequence.context_tokens >= sequence.token_count);
    PX_ASSERT(!whole || sequence.context_tokens == sequence.token_count);
    PX_ASSERT(options.position_bias == nullptr || sequence.context_tokens <= options.bias_reach);
    PX_ASSERT(sequence.token_begin + sequence.token_count <= q.rows && q.rows <= out.rows);
    PX_ASSERT(std::int64_t{sequence.block_count} * layout.block_tokens >= sequence.context_tokens);
    PX_ASSERT(sequence.block_begin + std::int64_t{sequence.block_count} <=
              std::ssize(batch.block_table));
  }
}

}  // namespace pixii::kernels
