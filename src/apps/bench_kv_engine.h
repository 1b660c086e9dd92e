// One engine with its KV tiers for measurements: requests one after another, and a stream beside.
//
// Thread: the caller's, which runs the loop; the engine has threads of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/kv_tiers.h"
#include "apps/model_host.h"
#include "apps/option_structs.h"
#include "base/ids.h"
#include "base/result.h"
#include "engine/engine_loop.h"
#include "obs/log.h"
#include "rt/loop.h"
#include "rt/time.h"

namespace pixii::apps {

/// Answers of an engine that are measured together.
struct BenchedBatch {
  std::map<RequestId, bool> begun;  // of those that have not ended
  std::size_t waiting = 0;          // of them, without a token
  RequestId first{};                // whose tokens are counted
  std::uint32_t steps_left = 0;
  rt::Time since{};
  rt::Time until{};
  bool cut = false;  // one ended, or what was to be measured is
};

class BenchedEngine final {
 public:
  /// `mock`: in the model's place. Errors: those of loading and of the flags.
  static Result<std::unique_ptr<BenchedEngine>> Make(
      const std::string& folder, const EngineFlags& flags,
      const std::optional<engine::MockOptions>& mock = {});

  struct Turn {
    double ttft_ms = 0;
    std::vector<TokenId> tokens;
    std::uint32_t cached_tokens = 0;
  };

  /// Answers greedily and waits for the end.
  Result<Turn> Ask(const std::vector<TokenId>& prompt, std::uint32_t output_tokens);

  /// How long a step takes in which an answer to each of these goes on: the mean of `steps`, ms.
  /// Errors: kResourceExhausted if they do not all run at a time; those of the engine.
  Result<double> StepOfBatch(const std::vector<std::vector<TokenId>>& prompts, std::uint32_t steps);

  /// Begins an answer that goes on beside all others, and waits for its first token.
  Result<void> StartStream(const std::vector<TokenId>& prompt, std::uint32_t output_tokens);
  /// Cancels it and waits for its end.
  void EndStream();
  /// Gaps between the stream's tokens since the last call, ms.
  std::vector<double> TakeStreamGaps();

  /// The stream has not ended.
  bool streams() const { return stream_left_ > 0; }

  /// Lets it go on until then.
  void RunUntil(rt::Time when);
  /// Until what the tiers want to write is written.
  void Settle();

  rt::Time now() const { return loop_->Now(); }

  /// What Make took.
  rt::Duration load_time() const { return load_time_; }

  const wire::ModelCard& card() const { return engine_->card(); }

  std::uint32_t vocab_size() const { return card().vocab_size; }

  std::uint64_t block_bytes() const { return block_bytes_; }

  const KvTiers& tiers() const { return *tiers_; }

 private:
  void Take(const wire::TokenFrame& frame);
  void TakeStream(const wire::TokenFrame& frame);
  void TakeBatch(const wire::TokenFrame& frame);
  RequestId Submit(const std::vector<TokenId>& prompt, std::uint32_t output_tokens);

  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<obs::Log> log_;
  std::unique_ptr<KvTiers> tiers_;
  std::unique_ptr<ModelHost> host_;
  std::unique_ptr<engine::EngineLoop> engine_;
  engine::DestinationId destination_{};
  std::uint64_t block_bytes_ = 0;
  rt::Duration load_time_{};
  std::uint64_t last_id_ = 0;
  rt::Time began_{};
  Turn turn_;
  std::optional<Error> error_;
  RequestId stream_{};
  std::uint32_t stream_left_ = 0;  // tokens
  rt::Time stream_last_{};
  bool stream_begins_ = false;
  std::vector<double> gaps_ms_;

  std::optional<BenchedBatch> batch_;
};

}  // namespace pixii::apps
