// What can be set about an engine. docs/subsystems/engine.md
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/adapter_store.h"
#include "rt/time.h"

namespace pixii::text::grammar {
class GrammarLibrary;
}  // namespace pixii::text::grammar

namespace pixii::engine {

/// What a sequence must find free before it is admitted.
enum class Admission : std::uint8_t {
  kForecast,    // its tokens, and the expected growth of it and of all who run
  kGuaranteed,  // the largest growth of it and of all who run: nobody is ever preempted
  kEager,       // its tokens and 1 % of the blocks
};

/// What happens to the KV of a sequence that gives up its blocks.
enum class Preemption : std::uint8_t {
  kRecompute,
  kSwap,  // to the host pool while it has room
  kAuto,  // to the host pool if moving a block there and back costs less than computing it
};

struct EngineOptions {
  std::uint32_t batch_sequences_max = 64;  // sequences of one step, 1 .. 4096
  std::uint32_t batch_tokens_max = 512;    // tokens of one step, 1 .. the executor's limit
  std::uint32_t queue_length_max = 1024;   // sequences waiting beyond a batch, 1 .. 65536
  std::uint32_t choice_count_max = 128;    // choices of one request
  std::uint32_t prompt_logprob_rows_max =
      64;  // rows of one step whose logits are wanted for prompt_logprobs
  std::uint32_t context_tokens_max = 0;  // tokens of prompt and output; 0 = the executor's limit
  std::uint32_t input_tokens_max = 0;    // tokens of a prompt; 0 = what the context leaves
  /// One level of priority is worth this many tokens of virtual time, so that low priority waits
  /// longer but never for ever. 0 .. 2^32
  std::int64_t priority_head_start_tokens = 16'384;
  Admission admission = Admission::kForecast;
  Preemption preemption = Preemption::kAuto;
  std::uint32_t output_tokens_forecast = 256;  // until outputs were seen, 1 .. 2^24
  /// Plans for which a sequence waits while another computes blocks that it shares, 0 .. 65536.
  std::uint32_t prefix_wait_plans_max = 64;
  AdapterOptions adapters = {};
  bool reuse_blocks = true;                       // find blocks of earlier requests
  std::uint32_t draft_tokens_max = 4;             // guesses of one sequence and step, 1 .. 16
  std::uint32_t draft_sequences_max = 8;          // in batches of more, nothing is guessed
  std::uint64_t media_cache_bytes = 256U << 20U;  // of features of what was shown lately; 0: none
  /// Part of every block's identity.
  std::string model_fingerprint = {};
  std::string numerics_id = {};
  std::string kv_dtype = {};
  std::string identity_key = {};  // secret of the block hashes
  /// Grammars of constrained requests; null: those are refused.
  std::shared_ptr<text::grammar::GrammarLibrary> grammars = {};
  bool jump_ahead = true;  // guess what a grammar leaves no choice about
  /// Changes of the prefix cache told of between two steps, 0 .. 2^24; 0: routers hear of none.
  std::uint32_t kv_event_count_max = 0;
  bool kv_event_tokens = false;  // they say the tokens of stored blocks, too
  /// Share of the blocks that live sessions keep, 0 .. 1: those are evicted behind all others.
  double session_share = 0;
  rt::Duration session_lifetime = std::chrono::minutes(5);  // since its last turn
};

}  // namespace pixii::engine
