#include "engine/model_executor.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/checked.h"
#include "rt/process.h"

namespace pixii::engine {

namespace {

constexpr std::uint32_t kBlockTokensLimit = 512;
constexpr std::uint32_t kBlockCountLimit = 1U << 24;

Result<void> CheckOption(const char* name, std::uint32_t value, std::uint32_t high) {
  if (value == 0 || value > high) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} is {}; allowed is 1 to {}", name, value, high), name);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ModelExecutor>> ModelExecutor::Create(model::LanguageModel& model,
                                                             kernels::Operators& operators,
                                                             const ModelExecutorOptions& options) {
  if (model.spec().task != model::ModelTask::kGenerate) {
    return Fail(Code::kUnsupported,
                fmt::format("{} gives no logits of a vocabulary: the model cannot generate",
                            model.spec().architecture),
                "model");
  }
  PX_CHECK_OK(CheckOption("block_tokens", options.block_tokens, kBlockTokensLimit));
  PX_CHECK_OK(CheckOption("block_count", options.block_count, kBlockCountLimit));
  // Slots are 32-bit in the step descriptor.
  PX_CHECK_OK(CheckOption("block_count", options.block_count, 0x7fffffffU / options.block_tokens));
  kernels::KvCache cache;
  cache.layout =
      model.MakeKvLayout(static_cast<std::int32_t>(options.block_tokens), options.kv_dtype);
  cache.block_count = static_cast<std::int32_t>(options.block_count);
  std::optional<std::size_t> size_bytes =
      CheckedMul(cache.layout.block_size_bytes(), options.block_count);
  if (!size_bytes) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} KV blocks are more than memory can address", options.block_count),
                "block_count");
  }
  std::size_t block_bytes = cache.layout.block_size_bytes();
  auto host_slots = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(options.host_memory_bytes / block_bytes, kBlockCountLimit));
  const model::ModelSpec& spec = model.spec();
  ExecutorLimits limits{.vocab_size = static_cast<std::uint32_t>(spec.vocab_size),
                        .context_tokens_max = static_cast<std::uint32_t>(spec.context_tokens_max),
                        .block_tokens = options.block_tokens,
                        .block_count = options.block_count,
                        .step_tokens_max = options.step_tokens_max,
                        .step_logit_rows_max = options.step_logit_rows_max,
                        .host_block_count = host_slots,
                        .block_size_bytes = block_bytes,
                        .token_multiply_adds = spec.parameter_count,
                        .adapter_slots = static_cast<std::uint32_t>(model.adapter_slot_count())};
  auto* made = new ModelExecutor(  // tidy: new private constructor
      model, operators, options.reload, limits);
  auto executor = std::unique_ptr<ModelExecutor>(made);
  executor->cache_ = std::move(cache);
  PX_CHECK_OK(executor->AllocateCache());
  return executor;
}

Result<void> ModelExecutor::AllocateCache() {
  const std::size_t block_bytes = cache_.layout.block_size_bytes();
  PX_TRY(kernels::Buffer cache, operators_.Allocate(block_bytes * limits_.block_count));
  HostBlocks host;
  if (limits_.host_block_count > 0) {
    PX_TRY(kernels::Buffer buffer, operators_.Allocate(limits_.host_block_count * block_bytes));
    host = HostBlocks(std::move(buffer), limits_.host_block_count, block_bytes);
  }
  cache_.buffer = std::move(cache);
  host_ = std::move(host);
  return {};
}

Result<void> ModelExecutor::Release(const MemoryParts& parts) {
  if (!operators_.on_host()) {
    // Recorded steps name the addresses of weights and cache.
    return Fail(Code::kUnsupported,
                fmt::format("memory is given back on the CPU only, not on {}", operators_.name()));
  }
  if (parts.weights && reload_ == nullptr) {
    return Fail(Code::kUnsupported, "this model has no checkpoint to be loaded from again");
  }
  if (parts.kv_cache) {
    cache_.buffer = kernels::Buffer();
    host_ = HostBlocks();
  }
  if (parts.weights && model_ != nullptr) {
    model_ = nullptr;
    reload_->Unload();
  }
  rt::TrimMemory();
  return {};
}

Result<void> ModelExecutor::Restore(const MemoryParts& parts) {
  if (parts.weights && model_ == nullptr) {
    PX_TRY(model_, reload_->Load());
  }
  if (parts.kv_cache && cache_.buffer.data() == nullptr) {
    PX_CHECK_OK(AllocateCache());
  }
  return {};
}

Result<void> ModelExecutor::CopyBlocks(std::span<const BlockCopy> copies) {
  for (const BlockCopy& copy : copies) {
    std::span<std::byte> block(cache_.block(static_cast<std::int32_t>(copy.block)),
                               cache_.layout.block_size_bytes());
    if (copy.to_host) {
      host_.Put(copy.host_slot, copy.tag, block);
    } else {
      PX_CHECK_OK(host_.Get(copy.host_slot, copy.tag, block));
    }
  }
  return {};
}

Result<void> ModelExecutor::SetAdapter(std::uint32_t slot, const AdapterWeights* weights) {
  auto index = static_cast<std::int32_t>(slot);
  if (weights == nullptr) {
    model_->UnloadAdapter(index);
    return {};
  }
  return model_->LoadAdapter(index, static_cast<const ModelAdapter*>(weights)->adapter());
}

std::uint32_t BlocksThatFit(const model::LanguageModel& model, std::uint32_t block_tokens,
                            kernels::KvDType kv_dtype, std::uint64_t memory_bytes,
                            std::uint32_t sequences) {
  std::uint64_t block_bytes =
      model.MakeKvLayout(static_cast<std::int32_t>(block_tokens), kv_dtype).block_size_bytes();
  std::uint64_t context = static_cast<std::uint64_t>(model.spec().context_tokens_max);
  std::uint64_t useful = CeilDiv<std::uint64_t>(context, block_tokens) * sequences;
  return static_cast<std::uint32_t>(
      std::min({memory_bytes / block_bytes, useful, std::uint64_t{kBlockCountLimit}}));
}

}  // namespace pixii::engine
