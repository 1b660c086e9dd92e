#include "apps/bench_kv_slowdown.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "apps/bench_kv_engine.h"
#include "rt/random.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kSeed = 20'261'123;
constexpr std::uint32_t kRounds = 5;
constexpr std::uint32_t kAsksOfRound = 24;
constexpr std::uint32_t kAsksMin = 3;  // else a round says nothing
constexpr double kPaceOfAnswer = 1.5;  // time between two requests, in times of the slowest one
constexpr std::uint32_t kStreamPrompt = 32;

struct Variant {
  std::string name;
  std::unique_ptr<BenchedEngine> engine;
  std::vector<double> gaps_ms;  // [round], mean of it
  std::uint64_t traffic = 0;    // bytes, in the rounds
  double seconds = 0;           // of the rounds
};

double Mean(const std::vector<double>& values) {
  return values.empty() ? 0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

class Slowdown final {
 public:
  explicit Slowdown(const BenchKvFlags& flags) : flags_(flags), random_(kSeed) {}

  Result<std::vector<bench::Figure>> Run(const std::string& folder) {
    PX_CHECK_OK(MakeVariants(folder));
    PX_CHECK_OK(WarmUp());
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      for (Variant& variant : variants_) {
        PX_CHECK_OK(MeasureRound(variant, round));
      }
    }
    return Figures();
  }

 private:
  // The tiers' engines hold half of the conversations on the device, so each that comes is one
  // that went.
  Result<void> MakeVariants(const std::string& folder) {
    const std::int64_t context = flags_.context + 2 * flags_.turn;
    EngineFlags base;
    base.block_size = flags_.block_size;
    base.max_context = std::max(context, stream_tokens() + kStreamPrompt + flags_.block_size);
    base.max_batch = 4;
    base.threads = flags_.threads;
    // What the stream does not use yet keeps conversations, too: twice as many as all that holds.
    const std::int64_t cache_tokens = flags_.cache_tokens + base.max_context;
    const double talked = flags_.working_set * static_cast<double>(flags_.cache_tokens);
    count_ = static_cast<std::size_t>(std::max(talked, 2 * static_cast<double>(cache_tokens)) /
                                      static_cast<double>(context));
    EngineFlags device = base;
    device.kv_tokens = static_cast<std::int64_t>(count_ + 2) * base.max_context;
    EngineFlags host = base;
    host.kv_tokens = cache_tokens;
    host.kv_host_blocks = 2 * device.kv_tokens / flags_.block_size;
    host.kv_tier_bandwidth_share = 1;
    EngineFlags paced = host;
    paced.kv_tier_bandwidth_share = flags_.tier_share;
    for (const auto& [name, own] :
         {std::pair("device", device), {"free", host}, {"paced", paced}}) {
      Variant& variant = variants_.emplace_back();
      variant.name = name;
      PX_TRY(variant.engine, BenchedEngine::Make(folder, own));
    }
    return {};
  }

  std::int64_t stream_tokens() const { return flags_.stream_tokens; }

  std::vector<TokenId> Draw(std::int64_t tokens) {
    std::vector<TokenId> drawn;
    for (std::int64_t i = 0; i < tokens; ++i) {
      drawn.push_back(static_cast<TokenId>(random_.Below(variants_[0].engine->vocab_size())));
    }
    return drawn;
  }

  // Every conversation is known everywhere; the pace is what the slowest engine keeps.
  Result<void> WarmUp() {
    for (std::size_t i = 0; i < count_; ++i) {
      talks_.push_back(Draw(flags_.context));
    }
    std::vector<double> times;
    for (Variant& variant : variants_) {
      for (int pass = 0; pass < 2; ++pass) {
        for (const std::vector<TokenId>& talk : talks_) {
          PX_TRY(const BenchedEngine::Turn turn, variant.engine->Ask(talk, 1));
          if (pass > 0) {
            times.push_back(turn.ttft_ms);
          }
        }
        variant.engine->Settle();
      }
    }
    period_ = std::chrono::duration_cast<rt::Duration>(
        std::chrono::duration<double, std::milli>(kPaceOfAnswer * bench::Quantile(times, 0.9)));
    return {};
  }

  // The same requests in every engine: of each conversation all is known but the last tokens.
  Result<void> MeasureRound(Variant& variant, std::uint32_t round) {
    BenchedEngine& engine = *variant.engine;
    PX_CHECK_OK(
        engine.StartStream(Draw(kStreamPrompt), static_cast<std::uint32_t>(stream_tokens())));
    engine.TakeStreamGaps();
    const std::uint64_t traffic = engine.tiers().traffic_bytes();
    const rt::Time began = engine.now();
    std::uint32_t asked = 0;
    while (asked < kAsksOfRound && engine.streams()) {
      PX_CHECK_OK(engine.Ask(talks_[(round * kAsksOfRound + asked) % talks_.size()], 1));
      ++asked;
      engine.RunUntil(std::max(engine.now(), began + asked * period_));
    }
    const std::vector<double> gaps = engine.TakeStreamGaps();
    variant.gaps_ms.push_back(Mean(gaps));
    variant.seconds += std::chrono::duration<double>(engine.now() - began).count();
    variant.traffic += engine.tiers().traffic_bytes() - traffic;
    if (asked < kAsksMin) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("stream-tokens: the stream of {} tokens ended before {} "
                              "conversations had gone on; give more",
                              stream_tokens(), kAsksMin),
                  "stream-tokens");
    }
    engine.EndStream();
    return {};
  }

  std::vector<bench::Figure> Figures() const {
    std::vector<bench::Figure> figures;
    auto put = [&](std::string name, const char* unit, std::vector<double> values) {
      figures.push_back(bench::MakeFigure(std::move(name), unit, std::move(values)));
    };
    for (const Variant& variant : variants_) {
      put(fmt::format("gap_{}", variant.name), "ms", variant.gaps_ms);
    }
    const double bandwidth = variants_.back().engine->tiers().bandwidth();
    for (std::size_t i = 1; i < variants_.size(); ++i) {
      const Variant& variant = variants_[i];
      std::vector<double> slower;
      for (std::size_t round = 0; round < variant.gaps_ms.size(); ++round) {
        slower.push_back(100 * (variant.gaps_ms[round] / variants_[0].gaps_ms[round] - 1));
      }
      put(fmt::format("slowdown_{}", variant.name), "percent", std::move(slower));
      put(fmt::format("share_used_{}", variant.name), "percent",
          {100 * static_cast<double>(variant.traffic) / variant.seconds / bandwidth});
    }
    put("share_configured", "percent", {100 * flags_.tier_share});
    put("memory_bandwidth", "GB/s", {bandwidth / 1e9});
    return figures;
  }

  BenchKvFlags flags_;
  rt::Random random_;
  std::size_t count_ = 0;
  std::vector<std::vector<TokenId>> talks_;
  std::vector<Variant> variants_;
  rt::Duration period_{};
};

}  // namespace

Result<std::vector<bench::Figure>> BenchKvSlowdown(const BenchKvFlags& flags,
                                                   const std::string& folder) {
  return Slowdown(flags).Run(folder);
}

}  // namespace pixii::apps
