#include "engine/model_executor.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/checked.h"
#include "rt/memory_file.h"
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

wire::ModelTask TaskOf(model::ModelTask task) {
  return task == model::ModelTask::kGenerate ? wire::ModelTask::kGenerate
         : task == model::ModelTask::kEmbed  ? wire::ModelTask::kEmbed
                                             : wire::ModelTask::kClassify;
}

/// The vector that the model's Pooler makes of a text's hidden states.
class VectorText final : public PooledText {
 public:
  VectorText(std::shared_ptr<const model::Pooler> pooler, std::uint32_t skip_tokens)
      : pooler_(std::move(pooler)) {
    state_.skipped = skip_tokens;
  }

  void Add(std::span<const float> row) override { pooler_->Add(row, state_); }

  std::vector<float> Finish() override { return pooler_->Finish(state_); }

 private:
  std::shared_ptr<const model::Pooler> pooler_;
  model::Pooler::State state_;
};

/// The class logits that the model itself gives in one row.
class ClassText final : public PooledText {
 public:
  void Add(std::span<const float> row) override { row_.assign(row.begin(), row.end()); }

  std::vector<float> Finish() override { return std::move(row_); }

 private:
  std::vector<float> row_;
};

class SpecPooler final : public TextPooler {
 public:
  explicit SpecPooler(const model::ModelSpec& spec)
      : pooler_(spec.pooler),
        rows_(spec.pool_rows == model::PoolRows::kFirst  ? PoolRows::kFirst
              : spec.pool_rows == model::PoolRows::kLast ? PoolRows::kLast
                                                         : PoolRows::kAll),
        feature_count_(static_cast<std::uint32_t>(pooler_ ? pooler_->features() : spec.row_size)) {}

  PoolRows rows() const override { return rows_; }

  std::uint32_t feature_count() const override { return feature_count_; }

  bool can_skip() const override { return pooler_ && !pooler_->spec().include_prompt; }

  std::unique_ptr<PooledText> Start(std::uint32_t skip_tokens) const override {
    if (pooler_) {
      return std::make_unique<VectorText>(pooler_, rows_ == PoolRows::kAll ? skip_tokens : 0);
    }
    return std::make_unique<ClassText>();
  }

 private:
  std::shared_ptr<const model::Pooler> pooler_;
  PoolRows rows_;
  std::uint32_t feature_count_;
};

}  // namespace

ModelExecutor::ModelExecutor(model::LanguageModel& model, kernels::Operators& operators,
                             const ModelExecutorOptions& options, const ExecutorLimits& limits)
    : model_(&model),
      operators_(operators),
      reload_(options.reload),
      keep_hidden_(options.keep_hidden),
      limits_(limits) {
  if (limits.task != wire::ModelTask::kGenerate) {
    pooler_ = std::make_shared<SpecPooler>(model.spec());
  }
}

Result<std::unique_ptr<ModelExecutor>> ModelExecutor::Create(model::LanguageModel& model,
                                                             kernels::Operators& operators,
                                                             const ModelExecutorOptions& options) {
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
                        .adapter_slots = static_cast<std::uint32_t>(model.adapter_slot_count()),
                        .task = TaskOf(spec.task),
                        .row_size = static_cast<std::uint32_t>(spec.row_size),
                        .token_type_count = static_cast<std::uint32_t>(spec.token_type_count),
                        .whole_texts = spec.whole_texts,
                        .hidden_size = options.keep_hidden == KeepHidden::kNever
                                           ? 0U
                                           : static_cast<std::uint32_t>(spec.hidden_size)};
  if (spec.whole_texts || spec.task == model::ModelTask::kEmbed) {
    limits.step_logit_rows_max = options.step_tokens_max;
  }
  auto* made = new ModelExecutor(  // tidy: new private constructor
      model, operators, options, limits);
  auto executor = std::unique_ptr<ModelExecutor>(made);
  executor->cache_ = std::move(cache);
  executor->cuts_ = model.kv_cuts();
  if (options.shared && operators.on_host()) {
    PX_TRY(rt::MemoryFile file, rt::MemoryFile::CreateSparse(*size_bytes));
    executor->file_ = std::make_shared<const rt::MemoryFile>(std::move(file));
  }
  PX_CHECK_OK(executor->AllocateCache());
  return executor;
}

Result<void> ModelExecutor::Execute(const kernels::StepBatch& batch, std::span<float> logits) {
  hidden_.clear();
  if (keep_hidden_ == KeepHidden::kNever ||
      (keep_hidden_ == KeepHidden::kWithLogits && batch.logit_rows.empty())) {
    return model_->Forward(batch, cache_, logits);
  }
  const std::int32_t last = model_->spec().layer_count;
  const model::HiddenObserver keep = [&](std::int32_t index, const kernels::Matrix& rows) {
    for (std::int64_t row = 0; index == last && row < rows.rows; ++row) {
      hidden_.insert(hidden_.end(), rows.f32(row), rows.f32(row) + rows.cols);
    }
  };
  return model_->Forward(batch, cache_, logits, &keep);
}

Result<kernels::Buffer> ModelExecutor::CacheMemory() const {
  const std::size_t size_bytes = cache_.layout.block_size_bytes() * limits_.block_count;
  if (file_ == nullptr) {
    return operators_.Allocate(size_bytes);
  }
  return kernels::Buffer(file_->bytes().data(), size_bytes, [file = file_](void*) {});
}

Result<void> ModelExecutor::AllocateCache() {
  const std::size_t block_bytes = cache_.layout.block_size_bytes();
  PX_TRY(kernels::Buffer cache, CacheMemory());
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
    if (file_ != nullptr) {
      PX_CHECK_OK(file_->GiveBack());  // peers may have it mapped still
    }
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
    std::span<std::byte> block = block_bytes(copy.block);
    if (copy.to_host) {
      host_.Put(copy.host_slot, copy.tag, block);
    } else {
      PX_CHECK_OK(host_.Get(copy.host_slot, copy.tag, block));
    }
  }
  return {};
}

std::span<std::byte> ModelExecutor::block_bytes(std::uint32_t block) {
  if (!operators_.on_host() || cache_.buffer.data() == nullptr) {
    return {};
  }
  return {cache_.block(static_cast<std::int32_t>(block)), cache_.layout.block_size_bytes()};
}

std::vector<std::uint32_t> ModelExecutor::block_slices() const {
  const std::optional<kv::LayoutRecord> layout = block_layout();
  return layout ? layout->SliceSizes() : std::vector<std::uint32_t>();
}

std::optional<kv::LayoutRecord> ModelExecutor::block_layout() const {
  if (!operators_.on_host()) {
    return std::nullopt;
  }
  const auto narrow = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
  const kernels::KvLayout& layout = cache_.layout;
  kv::LayoutRecord out;
  out.layer_count = narrow(layout.layer_count);
  out.kv_head_count = narrow(layout.kv_head_count);
  out.key_dim = narrow(layout.key_dim);
  out.value_dim = narrow(layout.value_dim);
  out.value_in_key = layout.value_in_key;
  out.block_tokens = narrow(layout.block_tokens);
  out.dtype = static_cast<kv::ElementType>(layout.dtype);
  for (const model::RowRange& layers : cuts_.stage_layers) {
    out.stage_layers.push_back({narrow(layers.begin), narrow(layers.end)});
  }
  for (const model::RowRange& heads : cuts_.rank_heads) {
    out.rank_heads.push_back({narrow(heads.begin), narrow(heads.end)});
  }
  return out;
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
