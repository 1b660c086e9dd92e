#include "apps/model_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>

#include "apps/adapters.h"
#include "apps/kv_tiers.h"
#include "apps/logits_processors.h"
#include "apps/mock_engine.h"
#include "apps/model_source.h"
#include "apps/pooling_profile_of.h"
#include "base/checked.h"
#include "engine/draft_head.h"
#include "engine/draft_model.h"
#include "engine/model_encoder.h"
#include "engine/model_executor.h"
#include "engine/prompt_lookup.h"
#include "engine/rank_group.h"
#include "engine/threaded_executor.h"
#include "frontend/model_text.h"
#include "kernels/cuda/cuda_operators.h"
#include "kv/connector_stack.h"
#include "model/checkpoint_folder.h"
#include "model/inspect.h"
#include "model/vision_processor.h"
#include "rt/file.h"
#include "rt/process.h"
#include "rt/random.h"
#include "text/parsers/chat_format.h"

namespace pixii::apps {

namespace {

// Bits of an answer depend on this beside operators and dtypes; raise it when an operator's result
// changes.
constexpr int kKernelSetVersion = 1;

constexpr std::int32_t kDraftStepTokens = 512;  // tokens of one step
constexpr std::uint64_t kDraftKvMemory = std::uint64_t{256}
                                         << 20;  // bytes, unless a context needs more

constexpr std::uint64_t kAutoKvMemoryMax = std::uint64_t{1}
                                           << 30;  // bytes, unless 8 contexts need more
constexpr std::uint32_t kAutoContexts = 8;
constexpr std::int32_t kLogitRowsMax =
    4096;  // rows of one step; one for each sequence and for prompt logprobs

/// What the flags ask the model's linears to multiply in.
kernels::ComputeType ComputeOf(const EngineFlags& flags) {
  return flags.dtype == "fp32"     ? kernels::ComputeType::kF32
         : flags.compute == "bf16" ? kernels::ComputeType::kBf16
                                   : kernels::ComputeType::kInt8;
}

Result<std::string> ReadIdentityKey(const std::string& path) {
  if (path.empty()) {
    std::string key(32, '\0');
    rt::FillFromSystem(std::as_writable_bytes(std::span(key)));
    return key;
  }
  PX_TRY(std::string key, rt::ReadFile(path, 4096));
  if (key.size() < 16) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} holds {} bytes; a key has at least 16", path, key.size()),
                "kv-key-file");
  }
  return key;
}

/// Of each rank.
Result<std::uint32_t> PlanBlocks(const model::LanguageModel& model, const EngineFlags& flags,
                                 kernels::KvDType kv_dtype, std::uint32_t context_tokens) {
  const std::uint32_t ranks = RankCountOf(flags);
  auto block_tokens = static_cast<std::uint32_t>(flags.block_size);
  std::uint64_t block_bytes =
      model.MakeKvLayout(static_cast<std::int32_t>(block_tokens), kv_dtype).block_size_bytes();
  auto memory = static_cast<std::uint64_t>(flags.kv_memory);
  if (memory > 0 && flags.kv_memory_fraction > 0) {
    return Fail(Code::kInvalidArgument,
                "kv-memory-fraction: kv-memory says how much already; give one of them",
                "kv-memory-fraction");
  }
  if (flags.kv_memory_fraction > 0) {
    PX_TRY(rt::MachineLimits machine, rt::ReadMachineLimits());
    memory = static_cast<std::uint64_t>(static_cast<double>(machine.memory_available_bytes) *
                                        flags.kv_memory_fraction);
  } else if (memory == 0) {
    PX_TRY(rt::MachineLimits machine, rt::ReadMachineLimits());
    std::uint64_t contexts_bytes =
        ranks * kAutoContexts * (context_tokens / block_tokens + 1) * block_bytes;
    memory =
        std::min(machine.memory_available_bytes / 2, std::max(kAutoKvMemoryMax, contexts_bytes));
  }
  std::uint32_t blocks =
      engine::BlocksThatFit(model, block_tokens, kv_dtype, memory,
                            ranks * static_cast<std::uint32_t>(flags.max_batch)) /
      ranks;
  if (flags.kv_tokens > 0) {
    std::uint64_t asked =
        CeilDiv<std::uint64_t>(static_cast<std::uint64_t>(flags.kv_tokens), block_tokens);
    blocks = static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks, asked));
  }
  std::uint32_t needed = (context_tokens + block_tokens - 1) / block_tokens;
  if (blocks < needed) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("kv-memory: {} bytes{} hold {} blocks of {} tokens{}, one request of {} "
                    "tokens needs {}; give more memory or a "
                    "smaller --max-context",
                    memory, flags.kv_tokens > 0 ? " and kv-tokens" : "", blocks, block_tokens,
                    ranks > 1 ? " for each rank" : "", context_tokens, needed),
        "kv-memory");
  }
  return blocks;
}

}  // namespace

std::uint32_t RankCountOf(const EngineFlags& flags) {
  return flags.enable_attention_dp ? static_cast<std::uint32_t>(flags.tensor_parallel_size) : 1;
}

model::RankOptions RankOptionsOf(const EngineFlags& flags) {
  return {.tensor_count =
              flags.enable_attention_dp ? 1 : static_cast<std::int32_t>(flags.tensor_parallel_size),
          .stage_count = static_cast<std::int32_t>(flags.pipeline_parallel_size),
          .make_operators = [flags] { return MakeOperators(flags); }};
}

namespace {

/// Ranks of one stage run at a time and share the cores; stages take turns and have all of them.
Result<std::int64_t> ThreadsOfRank(const EngineFlags& flags) {
  const std::int32_t ranks = RankOptionsOf(flags).tensor_count;
  if (ranks == 1) {
    return flags.threads;
  }
  std::int64_t threads = flags.threads;
  if (threads == 0) {
    PX_TRY(const rt::MachineLimits machine, rt::ReadMachineLimits());
    threads = machine.cpu_count;
  }
  return std::max<std::int64_t>(threads / ranks, 1);
}

}  // namespace

std::string TowerNumerics(const EngineFlags& flags, const kernels::Operators& operators) {
  const kernels::ComputeType compute = ComputeOf(flags);
  return fmt::format("k{}-{}-{}", kKernelSetVersion, operators.numerics(),
                     compute == kernels::ComputeType::kF32    ? "fp32"
                     : compute == kernels::ComputeType::kBf16 ? "bf16"
                                                              : "int8");
}

Result<std::function<std::unique_ptr<engine::ModelEncoder>()>> EncodersOf(
    const std::string& folder, const model::VisionSpec& spec, kernels::Operators* operators,
    const EngineFlags& flags) {
  PX_TRY(const model::CheckpointFolder source, model::CheckpointFolder::Open(folder));
  PX_TRY(media::PatchSpec processor, model::LoadVisionProcessor(source, spec));
  PX_TRY(std::optional<model::VideoProcessor> videos, model::LoadVideoProcessor(source, spec));
  std::shared_ptr<model::VisionTower> tower;
  if (operators != nullptr) {
    PX_TRY(tower, model::VisionTower::Load(folder, *operators, {.compute = ComputeOf(flags)}));
  }
  return [spec, tower, processor = std::move(processor), videos = std::move(videos)] {
    return std::make_unique<engine::ModelEncoder>(spec, tower, processor, videos);
  };
}

Result<std::uint64_t> MediaCacheBytes(const EngineFlags& flags) {
  const double gib = flags.multimodal_embedding_cache_capacity_gb;
  if (gib < 0) {
    return static_cast<std::uint64_t>(flags.media_cache);
  }
  if (flags.media_cache != EngineFlags().media_cache) {
    return Fail(Code::kInvalidArgument,
                fmt::format("multimodal-embedding-cache-capacity-gb: {} beside --media-cache {} "
                            "says it twice; give one of them",
                            gib, flags.media_cache),
                "multimodal-embedding-cache-capacity-gb");
  }
  return static_cast<std::uint64_t>(gib * static_cast<double>(std::uint64_t{1} << 30U));
}

Result<std::unique_ptr<kernels::Operators>> MakeOperators(const EngineFlags& flags,
                                                          kernels::WorkGate* gate) {
  const std::string& isa = flags.isa;
  const bool portable = flags.numerics == "portable";
  if (flags.device == "cuda") {
    if (isa != "auto" || portable) {
      return Fail(Code::kInvalidArgument,
                  "device: cuda has one instruction set and numerics of its own; --isa and "
                  "--numerics portable do not go with it",
                  "device");
    }
    return kernels::MakeCudaOperators({});
  }
  if (portable && isa != "auto") {
    return Fail(
        Code::kInvalidArgument,
        fmt::format(
            "numerics: portable chooses the instruction set itself, --isa {} does not go with it",
            isa),
        "numerics");
  }
  if (isa == "ref") {
    return kernels::MakeReferenceOperators();
  }
  PX_TRY(const std::int64_t threads, ThreadsOfRank(flags));
  kernels::CpuOptions options = CpuOptionsOf(isa, threads);
  options.portable = portable;
  options.gate = gate;
  return kernels::MakeCpuOperators(options);
}

kernels::CpuOptions CpuOptionsOf(const std::string& isa, std::int64_t threads) {
  kernels::CpuOptions options;
  options.thread_count = static_cast<std::int32_t>(threads);
  // Of another architecture's, too: what the host lacks is refused by name where it is asked for.
  constexpr auto kLast = static_cast<int>(kernels::CpuIsa::kNeonI8mm);
  for (int one = 0; one <= kLast; ++one) {
    const auto named = static_cast<kernels::CpuIsa>(one);
    options.isa = isa == kernels::IsaName(named) ? named : options.isa;
  }
  return options;
}

Result<std::unique_ptr<ModelHost>> ModelHost::Start(const std::string& folder,
                                                    const EngineFlags& flags) {
  if (!std::has_single_bit(static_cast<std::uint64_t>(flags.block_size))) {
    return Fail(Code::kInvalidArgument,
                fmt::format("block-size: {} is no power of two", flags.block_size), "block-size");
  }
  if (flags.max_context == 1) {
    return Fail(Code::kInvalidArgument,
                "max-context: 1 has no room for a prompt and an answer; give 2 or more",
                "max-context");
  }
  auto host = std::unique_ptr<ModelHost>(new ModelHost);  // tidy: new the constructor is private
  host->folder_ = folder;
  host->flags_ = flags;
  PX_TRY(const std::string key_file, IdentityKeyFile(flags));
  host->identity_key_ = SharedIdentityKey(flags);
  if (host->identity_key_.empty()) {
    PX_TRY(host->identity_key_, ReadIdentityKey(key_file));
  }
  return host;
}

Result<std::unique_ptr<ModelHost>> ModelHost::LoadMock(const std::string& folder,
                                                       const EngineFlags& flags,
                                                       const engine::MockOptions& mock) {
  PX_TRY(std::unique_ptr<ModelHost> host, Start(folder, flags));
  PX_TRY(model::InspectReport report, model::InspectFolder(folder));
  host->spec_ = std::move(report.spec);
  host->mock_ = mock;
  PX_CHECK_OK(host->MakeProcessorSets());
  host->numerics_id_ = fmt::format("mock-{}", mock.seed);  // no worker with a model has its like
  return host;
}

Result<std::unique_ptr<ModelHost>> ModelHost::Load(const std::string& folder,
                                                   const EngineFlags& flags,
                                                   model::LoadProgress progress) {
  PX_TRY(std::unique_ptr<ModelHost> host, Start(folder, flags));
  PX_TRY(host->adapter_catalogue_, AdapterCatalogue(flags));  // a wrong folder is said at once
  PX_TRY(host->operators_, MakeOperators(flags));
  bool fp32 = flags.dtype == "fp32";
  if (fp32 && flags.compute != "auto") {
    return Fail(Code::kInvalidArgument,
                fmt::format("compute: {} does not go with --dtype fp32", flags.compute), "compute");
  }
  model::LoadOptions options;
  options.compute = ComputeOf(flags);
  options.context_tokens_max = static_cast<std::int32_t>(flags.max_context);
  const auto ranks = static_cast<std::int32_t>(RankCountOf(flags));  // whose steps are one
  options.step_tokens_max = ranks * static_cast<std::int32_t>(flags.max_batched_tokens);
  options.step_logit_rows_max = ranks * static_cast<std::int32_t>(std::min<std::int64_t>(
                                            kLogitRowsMax, flags.max_batched_tokens));
  options.adapter_slots = ranks * static_cast<std::int32_t>(AdapterOptionsOf(flags).slot_count);
  options.progress = std::move(progress);
  options.ranks = RankOptionsOf(flags);
  Result<std::unique_ptr<LoadedModel>> loaded =
      LoadedModel::Open(folder, *host->operators_, options);
  if (!loaded && loaded.error().param() == "context_tokens_max") {
    return Fail(Code::kInvalidArgument, fmt::format("max-context: {}", loaded.error().detail()),
                "max-context");
  }
  PX_TRY(host->model_, std::move(loaded));
  host->spec_ = host->model_->spec();
  const bool integers = options.compute == kernels::ComputeType::kInt8 &&
                        host->operators_->on_host() && host->model_->spec().integer_codes;
  if (flags.compute == "int8" && !integers) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("compute: {} has no weights that this device multiplies as integers", folder),
        "compute");
  }
  PX_CHECK_OK(host->CheckRanks());
  PX_CHECK_OK(host->MakeProcessorSets());
  PX_CHECK_OK(host->LoadDraftModel());
  host->kv_dtype_ = kernels::KvDTypeOf(flags.kv_dtype)  // "auto" is none
                        .value_or(fp32 ? kernels::KvDType::kF32 : kernels::KvDType::kBf16);
  if (host->model_->spec().whole_texts) {
    host->kv_dtype_ = kernels::KvDType::kF32;  // whatever is asked for: it lasts for a layer
  }
  host->numerics_id_ =
      fmt::format("k{}-{}-{}-kv{}-t8", kKernelSetVersion, host->operators_->numerics(),
                  fp32       ? "fp32"
                  : integers ? "int8"
                             : "bf16",
                  kernels::KvDTypeName(host->kv_dtype_));
  if (host->model_->spec().rope_context_tokens > 0) {
    host->numerics_id_ += fmt::format("-rope{}", host->model_->spec().rope_context_tokens);
  }
  return host;
}

// Processors have one caller, so each rank has its own.
Result<void> ModelHost::MakeProcessorSets() {
  for (std::uint32_t rank = 0; rank < RankCountOf(flags_); ++rank) {
    PX_TRY(processors_.emplace_back(),
           MakeProcessors(flags_.logits_processor, static_cast<std::uint32_t>(spec_.vocab_size)));
  }
  return {};
}

Result<void> ModelHost::CheckRanks() const {
  if (RankCountOf(flags_) == 1) {
    return {};
  }
  if (spec_.task != model::ModelTask::kGenerate || spec_.whole_texts) {
    return Fail(Code::kUnsupported, "enable-attention-dp: this model does not generate",
                "enable-attention-dp");
  }
  if (flags_.speculation != "none" && flags_.speculation != "lookup") {
    return Fail(Code::kUnsupported,
                fmt::format("speculation: {} does not go with --enable-attention-dp; lookup does",
                            flags_.speculation),
                "speculation");
  }
  return {};
}

Result<void> ModelHost::LoadDraftModel() {
  const bool mtp = flags_.speculation == "mtp";
  const bool eagle = flags_.speculation == "eagle";
  if (!mtp && !eagle && flags_.speculation != "draft") {
    return {};
  }
  model::LoadOptions options;
  options.compute = ComputeOf(flags_);
  options.step_tokens_max = kDraftStepTokens;
  options.step_logit_rows_max = kDraftStepTokens;
  if (mtp) {
    options.context_tokens_max = model_->spec().context_tokens_max;
    PX_TRY(draft_model_,
           LoadedModel::OpenHead({.target = folder_, .eagle = {}}, *operators_, options));
    return {};
  }
  PX_TRY(const ModelSource source, ResolveModel(flags_.draft_model, false));
  if (eagle) {
    PX_TRY(draft_model_, LoadedModel::OpenHead({.target = folder_, .eagle = source.folder},
                                               *operators_, options));
    return {};
  }
  PX_TRY(draft_model_, LoadedModel::Open(source.folder, *operators_, options));
  if (draft_model_->spec().vocab_size != model_->spec().vocab_size) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("draft-model: {} has {} tokens, the model {}: they cannot share a "
                    "tokenizer",
                    flags_.draft_model, draft_model_->spec().vocab_size, model_->spec().vocab_size),
        "draft-model");
  }
  return {};
}

Result<std::unique_ptr<engine::Drafter>> ModelHost::MakeDrafter(std::uint32_t context_tokens) {
  if (flags_.speculation == "lookup") {
    return std::make_unique<engine::PromptLookup>();
  }
  if (!draft_model_) {
    return std::unique_ptr<engine::Drafter>();
  }
  engine::ModelExecutorOptions options;
  options.block_tokens = static_cast<std::uint32_t>(flags_.block_size);
  const auto longest =
      std::min(context_tokens, static_cast<std::uint32_t>(draft_model_->spec().context_tokens_max));
  const std::uint32_t needed = longest / options.block_tokens + 1;
  options.block_count =
      std::max(needed, engine::BlocksThatFit(draft_model_->model(), options.block_tokens,
                                             kernels::KvDType::kBf16, kDraftKvMemory,
                                             static_cast<std::uint32_t>(flags_.draft_max_batch)));
  options.step_tokens_max = kDraftStepTokens;
  options.step_logit_rows_max = kDraftStepTokens;
  options.reload = draft_model_.get();
  const bool head = drafts_with_head();
  options.keep_hidden = head ? engine::KeepHidden::kWithLogits : engine::KeepHidden::kNever;
  PX_TRY(auto executor, engine::ModelExecutor::Create(draft_model_->model(), *operators_, options));
  const auto vocab_size = static_cast<std::uint32_t>(model_->spec().vocab_size);
  if (head) {
    PX_TRY(auto drafter, engine::DraftHead::Create(std::move(executor), vocab_size));
    return std::unique_ptr<engine::Drafter>(std::move(drafter));
  }
  PX_TRY(auto drafter, engine::DraftModel::Create(std::move(executor), vocab_size));
  return std::unique_ptr<engine::Drafter>(std::move(drafter));
}

Result<std::unique_ptr<engine::StepExecutor>> ModelHost::MakeExecutor(std::uint32_t context_tokens,
                                                                      std::uint32_t step_tokens) {
  const auto logit_rows =
      static_cast<std::uint32_t>(std::min<std::int64_t>(kLogitRowsMax, flags_.max_batched_tokens));
  if (mock_) {
    return MakeMockExecutor(*mock_, spec_, flags_,
                            {.context_tokens = context_tokens,
                             .step_tokens = step_tokens,
                             .step_logit_rows = logit_rows});
  }
  PX_TRY(std::uint32_t blocks, PlanBlocks(model_->model(), flags_, kv_dtype_, context_tokens));
  engine::ModelExecutorOptions options;
  options.block_tokens = static_cast<std::uint32_t>(flags_.block_size);
  const std::uint32_t ranks = rank_count();
  options.block_count = ranks * blocks;
  options.step_tokens_max = ranks * step_tokens;
  options.step_logit_rows_max = ranks * logit_rows;
  options.kv_dtype = kv_dtype_;
  options.reload = model_.get();
  options.shared = shared_blocks_;
  options.keep_hidden =
      drafts_with_head() ? engine::KeepHidden::kAlways : engine::KeepHidden::kNever;
  options.host_memory_bytes = static_cast<std::uint64_t>(flags_.swap_memory);
  PX_TRY(auto executor, engine::ModelExecutor::Create(model_->model(), *operators_, options));
  return std::unique_ptr<engine::StepExecutor>(std::move(executor));
}

// One, or one a rank: a mock for each, or what they have of the model.
Result<std::vector<std::unique_ptr<engine::StepExecutor>>> ModelHost::MakeExecutors(
    std::uint32_t context_tokens, std::uint32_t step_tokens) {
  std::vector<std::unique_ptr<engine::StepExecutor>> executors;
  const std::uint32_t ranks = rank_count();
  if (mock_ || ranks == 1) {
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      PX_TRY(std::unique_ptr<engine::StepExecutor> executor,
             MakeExecutor(context_tokens, step_tokens));
      if (flags_.overlap) {
        executor = std::make_unique<engine::ThreadedExecutor>(std::move(executor));
      }
      executors.push_back(std::move(executor));
    }
    return executors;
  }
  PX_TRY(std::unique_ptr<engine::StepExecutor> joint, MakeExecutor(context_tokens, step_tokens));
  engine::RankGroupOptions options;
  options.rank_count = ranks;
  options.overlap = flags_.overlap;
  options.balance = {.enable = flags_.rank_balance,
                     .timeout_steps = static_cast<std::uint32_t>(flags_.rank_balance_timeout),
                     .batching_steps = static_cast<std::uint32_t>(flags_.rank_balance_batching)};
  PX_TRY(const std::shared_ptr<engine::RankGroup> group,
         engine::RankGroup::Create(std::move(joint), options));
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    executors.push_back(group->MakeExecutor(rank));
  }
  return executors;
}

Result<std::unique_ptr<engine::Engine>> ModelHost::MakeEngine(std::uint32_t kv_event_count_max) {
  if (rank_count() > 1) {
    return Fail(Code::kInvalidArgument,
                "enable-attention-dp: ranks are for pixii serve and pixii worker",
                "enable-attention-dp");
  }
  PX_TRY(std::vector<std::unique_ptr<engine::Engine>> engines, MakeRankEngines(kv_event_count_max));
  return std::move(engines.front());
}

Result<std::vector<std::unique_ptr<engine::Engine>>> ModelHost::MakeRankEngines(
    std::uint32_t kv_event_count_max, bool kv_event_tokens) {
  auto context = static_cast<std::uint32_t>(spec_.context_tokens_max);
  if (flags_.max_context > 0) {
    context = std::min(context, static_cast<std::uint32_t>(flags_.max_context));
  }
  // A text of an encoder is never cut.
  const auto step_tokens = std::max(static_cast<std::uint32_t>(flags_.max_batched_tokens),
                                    spec_.whole_texts ? context : 0U);
  PX_TRY(std::vector<std::unique_ptr<engine::StepExecutor>> executors,
         MakeExecutors(context, step_tokens));
  engine::EngineOptions options;
  options.batch_sequences_max =
      static_cast<std::uint32_t>(std::min(flags_.max_batch, flags_.max_batched_tokens));
  options.batch_tokens_max = step_tokens;
  options.queue_length_max = static_cast<std::uint32_t>(flags_.queue_length);
  options.context_tokens_max = context;
  options.input_tokens_max = std::min(context, static_cast<std::uint32_t>(flags_.max_input_tokens));
  options.admission = flags_.admission == "guaranteed" ? engine::Admission::kGuaranteed
                      : flags_.admission == "eager"    ? engine::Admission::kEager
                                                       : engine::Admission::kForecast;
  options.preemption = flags_.preemption == "recompute" ? engine::Preemption::kRecompute
                       : flags_.preemption == "swap"    ? engine::Preemption::kSwap
                                                        : engine::Preemption::kAuto;
  options.reuse_blocks = flags_.prefix_cache;
  options.kv_event_count_max = flags_.prefix_cache ? kv_event_count_max : 0;
  options.kv_event_tokens = kv_event_tokens;
  options.session_share = flags_.prefix_cache ? flags_.session_share : 0;
  options.session_lifetime = rt::Duration(flags_.session_time);
  options.model_fingerprint = spec_.fingerprint;
  options.numerics_id = numerics_id_;
  options.kv_dtype = mock_ ? "mock" : kernels::KvDTypeName(kv_dtype_);
  options.identity_key = identity_key_;
  options.draft_tokens_max = static_cast<std::uint32_t>(flags_.draft_tokens);
  options.draft_sequences_max = static_cast<std::uint32_t>(flags_.draft_max_batch);
  if (!mock_) {
    options.adapters = AdapterOptionsOf(flags_);
  }
  PX_TRY(options.media_cache_bytes, MediaCacheBytes(flags_));
  options.grammars = grammars_;
  options.jump_ahead = flags_.jump_ahead;
  options.media_cache_bytes /= rank_count();
  PX_TRY(const EncoderMaker make_encoder, MakeEncoders());
  std::vector<std::unique_ptr<engine::Engine>> engines;
  for (std::uint32_t rank = 0; rank < rank_count(); ++rank) {
    PX_TRY(std::unique_ptr<engine::Drafter> drafter, MakeDrafter(context));
    PX_TRY(std::unique_ptr<kv::Connector> connector,
           MakeConnector(*executors[rank], options, rank));
    PX_TRY(std::unique_ptr<engine::Engine> engine,
           engine::Engine::Create(options, std::move(executors[rank]), processors_[rank],
                                  std::move(drafter), std::move(connector), make_encoder()));
    PX_CHECK_OK(LoadAdapters(*engine));
    engines.push_back(std::move(engine));
  }
  return engines;
}

worker::FeatureTerms ModelHost::feature_terms() const {
  const model::VisionSpec& vision = *spec_.vision;
  return {.model_fingerprint = spec_.fingerprint,
          .numerics_id = TowerNumerics(flags_, *operators_),
          .row_size = static_cast<std::uint32_t>(vision.out_size) *
                      (1 + static_cast<std::uint32_t>(vision.deepstack_layers.size()))};
}

// One for each rank, of one tower; null: the model is shown text alone.
Result<ModelHost::EncoderMaker> ModelHost::MakeEncoders() const {
  if (mock_ || !spec_.vision) {
    return EncoderMaker([] { return nullptr; });
  }
  PX_TRY(auto make, EncodersOf(folder_, *spec_.vision,
                               flags_.vision_tower ? operators_.get() : nullptr, flags_));
  return EncoderMaker(std::move(make));
}

Result<std::unique_ptr<kv::Connector>> ModelHost::MakeConnector(
    const engine::StepExecutor& executor, const engine::EngineOptions& options,
    std::uint32_t rank) const {
  const engine::ExecutorLimits limits = executor.limits();
  kv::BlockGeometry geometry{.block_count = limits.block_count,
                             .block_tokens = limits.block_tokens,
                             .slices = executor.block_slices(),
                             .layout = executor.block_layout(),
                             .model_fingerprint = options.model_fingerprint,
                             .numerics_id = options.numerics_id,
                             .kv_dtype = options.kv_dtype,
                             .identity_key = options.identity_key,
                             .memory = executor.block_file()};
  for (const std::uint32_t bytes : geometry.slices) {
    geometry.block_size_bytes += bytes;
  }
  std::vector<std::unique_ptr<kv::Connector>> parts;
  for (const ConnectorMaker& maker : connectors_) {
    PX_TRY(std::unique_ptr<kv::Connector> part, maker(geometry, rank));
    if (part) {
      parts.push_back(std::move(part));
    }
  }
  if (parts.empty()) {
    return std::unique_ptr<kv::Connector>();
  }
  return std::make_unique<kv::ConnectorStack>(std::move(parts));
}

// Those of --lora stay, whatever else is loaded.
Result<void> ModelHost::LoadAdapters(engine::Engine& engine) const {
  if (mock_) {
    return {};
  }
  PX_TRY(const std::vector<worker::CatalogueEntry> wanted, AdaptersAtStart(flags_));
  const auto read = MakeAdapterReader(model_->model().adaptable_linears(), flags_);
  for (const worker::CatalogueEntry& entry : wanted) {
    auto weights = read(entry.source);
    Result<void> loaded = weights ? engine.LoadAdapter(entry.name, std::move(*weights), true)
                                  : Result<void>(Fail(weights.error()));
    if (!loaded) {
      return Fail(loaded.error().code(),
                  fmt::format("lora {}: {}", entry.name, loaded.error().detail()), "lora");
    }
  }
  return {};
}

worker::AdapterLinkOptions ModelHost::MakeAdapterLink(const OnBadAdapter& on_bad) const {
  worker::AdapterLinkOptions options;
  if (!WantsAdapters(flags_)) {
    return options;
  }
  const auto linears = model_->model().adaptable_linears();
  options.read = MakeAdapterReader(linears, flags_);
  for (const worker::CatalogueEntry& entry : adapter_catalogue_) {
    if (const Result<void> readable = CheckAdapter(entry.source, linears, flags_)) {
      options.catalogue.push_back(entry);
    } else if (on_bad) {
      on_bad(entry, readable.error());
    }
  }
  return options;
}

namespace {

constexpr std::uint64_t kTextFileSizeMax = std::uint64_t{16}
                                           << 20;  // bytes of a template or tokenizer_config.json

Result<std::optional<std::string>> ReadIfThere(const model::CheckpointFolder& folder,
                                               std::string_view name) {
  if (!folder.Has(name)) {
    return std::optional<std::string>();
  }
  PX_TRY(std::string text, folder.ReadText(name, kTextFileSizeMax));
  return std::optional<std::string>(std::move(text));
}

}  // namespace

text::CivilTime CivilNow() {
  auto now =
      std::chrono::system_clock::now();  // tidy: clock the date that templates print, once a prompt
  auto days = std::chrono::floor<std::chrono::days>(now);
  std::chrono::year_month_day date(days);
  std::chrono::hh_mm_ss time(std::chrono::floor<std::chrono::seconds>(now - days));
  text::CivilTime civil;
  civil.year = static_cast<int>(date.year());
  civil.month = static_cast<std::int32_t>(static_cast<unsigned>(date.month()));
  civil.day = static_cast<std::int32_t>(static_cast<unsigned>(date.day()));
  civil.hour = static_cast<std::int32_t>(time.hours().count());
  civil.minute = static_cast<std::int32_t>(time.minutes().count());
  civil.second = static_cast<std::int32_t>(time.seconds().count());
  return civil;
}

Result<frontend::ServedModel> LoadServedModel(const std::string& folder,
                                              const model::ModelSpec& spec, std::string name) {
  frontend::ServedModel served;
  served.names = {std::move(name)};
  const model::GenerationDefaults& defaults = spec.generation;
  bool greedy = defaults.do_sample && !*defaults.do_sample;
  served.defaults.temperature = greedy ? 0.0 : defaults.temperature.value_or(1.0);
  served.defaults.top_p = defaults.top_p.value_or(1.0);
  served.defaults.top_k = defaults.top_k.value_or(0);
  served.defaults.min_p = defaults.min_p.value_or(0.0);
  served.defaults.repetition_penalty = defaults.repetition_penalty.value_or(1.0);
  frontend::ModelTextFiles files;
  PX_TRY(const model::CheckpointFolder source, model::CheckpointFolder::Open(folder));
  PX_TRY(served.pooling, PoolingProfileOf(source, spec));
  if (!source.Has("tokenizer.json")) {
    return served;
  }
  files.tokenizer_json_path = folder + "/tokenizer.json";
  PX_TRY(files.tokenizer_json, source.ReadText("tokenizer.json", text::kTokenizerJsonBytesMax));
  PX_TRY(files.tokenizer_config_json, ReadIfThere(source, "tokenizer_config.json"));
  PX_TRY(files.chat_template_jinja, ReadIfThere(source, "chat_template.jinja"));
  PX_TRY(files.chat_template_json, ReadIfThere(source, "chat_template.json"));
  PX_TRY(const std::shared_ptr<const frontend::ModelText> text,
         frontend::ModelText::Create(files, CivilNow));
  served.text = text;
  const text::grammar::VocabularyOptions vocabulary{
      .eos_ids = spec.eos_token_ids,
      .vocab_size = static_cast<std::uint32_t>(spec.vocab_size),
      .markers = text::parsers::MarkerTexts()};
  text::grammar::GrammarLibraryOptions grammars;
  grammars.encode = [text](std::string_view answer) {
    return text->tokenizer().Encode(answer, {.parse_special = false});
  };
  served.grammars = std::make_shared<text::grammar::GrammarLibrary>(
      [text, vocabulary] {
        return text::grammar::GrammarVocabulary::Build(text->tokenizer(), vocabulary);
      },
      grammars);
  return served;
}

}  // namespace pixii::apps
