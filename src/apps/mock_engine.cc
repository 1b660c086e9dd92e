#include "apps/mock_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/adapters.h"
#include "base/checked.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint32_t kBlocksDefault = 16384;  // as Dynamo's mocker has, unless flags say
constexpr std::uint64_t kProfileBytesMax = std::uint64_t{64} << 20;

struct Refused {
  bool given;
  const char* flag;
};

Result<void> RefuseMockFlags(const MockFlags& serve) {
  const MockFlags usual;
  const Refused refused[] = {
      {serve.mock_seed != usual.mock_seed, "mock-seed"},
      {serve.mock_step_time != usual.mock_step_time, "mock-step-time"},
      {serve.mock_prefill_time != usual.mock_prefill_time, "mock-prefill-time"},
      {serve.mock_decode_time != usual.mock_decode_time, "mock-decode-time"},
      {serve.mock_context_time != usual.mock_context_time, "mock-context-time"},
      {serve.mock_speedup != usual.mock_speedup, "mock-speedup"},
      {serve.mock_decode_speedup != usual.mock_decode_speedup, "mock-decode-speedup"},
      {serve.mock_timing != usual.mock_timing, "mock-timing"},
      {!serve.mock_profile.empty(), "mock-profile"},
      {serve.mock_blocks != usual.mock_blocks, "mock-blocks"}};
  for (const Refused& row : refused) {
    if (row.given) {
      return Fail(Code::kInvalidArgument, fmt::format("{}: needs --engine mock", row.flag),
                  row.flag);
    }
  }
  return {};
}

// What would promise more than a mock does.
Result<void> RefuseModelFlags(const EngineFlags& engine) {
  const Refused refused[] = {
      {engine.device != "cpu", "device"},
      {engine.speculation != "none" && engine.speculation != "lookup", "speculation"},
      {engine.kv_memory > 0, "kv-memory"},
      {engine.kv_memory_fraction > 0, "kv-memory-fraction"},
      {engine.swap_memory > 0, "swap-memory"},
      {WantsAdapters(engine), "lora"}};
  for (const Refused& row : refused) {
    if (row.given) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: does not go with --engine mock, which has no model", row.flag),
                  row.flag);
    }
  }
  return {};
}

Result<engine::MockTiming> TimingOf(const MockFlags& flags) {
  using engine::MockTimingModel;
  engine::MockTiming out{.step_ns = flags.mock_step_time,
                         .token_ns = flags.mock_prefill_time,
                         .decode_ns = flags.mock_decode_time,
                         .context_token_ns = flags.mock_context_time,
                         .speedup = flags.mock_speedup,
                         .decode_speedup = flags.mock_decode_speedup};
  const bool polynomial =
      flags.mock_timing == "polynomial" || (flags.mock_timing == "auto" && flags.mock);
  if (flags.mock_timing == "profile" ||
      (flags.mock_timing == "auto" && !flags.mock_profile.empty())) {
    out.model = MockTimingModel::kProfile;
  } else if (polynomial) {
    out.model = MockTimingModel::kPolynomial;
  }
  const bool has_linear =
      out.step_ns != 0 || out.token_ns != 0 || out.decode_ns != 0 || out.context_token_ns != 0;
  if (has_linear && out.model != MockTimingModel::kLinear) {
    return Fail(Code::kInvalidArgument,
                "mock-timing: times of steps and tokens are those of --mock-timing linear",
                "mock-timing");
  }
  if (flags.mock_profile.empty() != (out.model != MockTimingModel::kProfile)) {
    return Fail(Code::kInvalidArgument,
                "mock-profile: --mock-timing profile and the file go together", "mock-profile");
  }
  if (out.model == MockTimingModel::kProfile) {
    PX_TRY(const std::string text, rt::ReadFile(flags.mock_profile, kProfileBytesMax));
    PX_TRY(out.profile, engine::ParseMockProfile(text));
  }
  return out;
}

}  // namespace

Result<std::optional<engine::MockOptions>> MockOptionsOf(const MockFlags& serve,
                                                         const EngineFlags& engine) {
  if (!IsMock(serve)) {
    PX_CHECK_OK(RefuseMockFlags(serve));
    if (serve.engine != "model") {
      return Fail(Code::kInvalidArgument,
                  fmt::format("engine: {} is an outside engine; only pixii worker takes one, by "
                              "--attach URL",
                              serve.engine),
                  "engine");
    }
    return std::optional<engine::MockOptions>();
  }
  PX_CHECK_OK(RefuseModelFlags(engine));
  if (serve.mock_blocks > 0 && engine.kv_tokens > 0) {
    return Fail(Code::kInvalidArgument, "mock-blocks: --kv-tokens says the same in tokens",
                "mock-blocks");
  }
  engine::MockOptions out;
  PX_TRY(out.timing, TimingOf(serve));
  out.limits.block_count = static_cast<std::uint32_t>(serve.mock_blocks);
  out.seed = static_cast<std::uint64_t>(serve.mock_seed);
  out.flat_rows = true;
  return std::optional(std::move(out));
}

Result<std::unique_ptr<engine::StepExecutor>> MakeMockExecutor(engine::MockOptions options,
                                                               const model::ModelSpec& spec,
                                                               const EngineFlags& flags,
                                                               const MockSizes& sizes) {
  if (spec.task != model::ModelTask::kGenerate || spec.whole_texts) {
    return Fail(Code::kUnsupported, "engine: the mock only generates, this model does not",
                "engine");
  }
  engine::ExecutorLimits& limits = options.limits;
  limits.vocab_size = static_cast<std::uint32_t>(spec.vocab_size);
  limits.context_tokens_max = static_cast<std::uint32_t>(spec.context_tokens_max);
  limits.block_tokens = static_cast<std::uint32_t>(flags.block_size);
  limits.step_tokens_max = sizes.step_tokens;
  limits.step_logit_rows_max = sizes.step_logit_rows;
  const auto needed = CeilDiv<std::uint32_t>(sizes.context_tokens, limits.block_tokens);
  if (limits.block_count == 0) {
    limits.block_count = std::max(kBlocksDefault, needed);
  }
  if (flags.kv_tokens > 0) {
    limits.block_count = static_cast<std::uint32_t>(
        CeilDiv<std::int64_t>(flags.kv_tokens, std::int64_t{limits.block_tokens}));
  }
  if (limits.block_count < needed) {
    return Fail(Code::kInvalidArgument,
                fmt::format("kv-tokens: {} blocks of {} tokens do not hold one request of {} "
                            "tokens; give more, or a smaller --max-context",
                            limits.block_count, limits.block_tokens, sizes.context_tokens),
                "kv-tokens");
  }
  return std::make_unique<engine::MockExecutor>(options);
}

}  // namespace pixii::apps
