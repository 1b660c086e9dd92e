// The messages between a frontend and a worker: a request for tokens, frames of tokens, a
// cancellation.
//
// Thread: values; they cross a function call, a socket or the simulator unchanged.
// docs/life_of_a_request.md A request is a value (architecture.md section 4): whatever engine gets
// it continues it exactly, because the tokens generated so far stand in it and randomness is a
// function of (seed, choice, output position).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/messages/adapters.h"
#include "wire/messages/constraint.h"
#include "wire/messages/media.h"
#include "wire/messages/pool.h"
#include "wire/messages/routing.h"
#include "wire/messages/times.h"

namespace pixii::wire {

/// DRY: a token that would lengthen a repetition of what came before is made less likely, the more
/// the longer the repetition. 0 = off.
struct DryParams {
  float multiplier = 0.0F;             // [0, 100]
  float base = 1.75F;                  // [1, 10]
  std::uint32_t allowed_length = 2;    // tokens, 1 .. context: repetitions this long cost something
  std::uint32_t range = 0;             // last tokens looked at, of prompt and output; 0 = all
  std::vector<TokenId> breakers = {};  // no repetition goes across these
};

/// XTC: with `probability`, all tokens at least `threshold` likely but the least likely of them go.
struct XtcParams {
  float probability = 0.0F;  // [0, 1]
  float threshold = 0.1F;    // [0, 1]; above 0.5 two such tokens cannot be
};

/// Mirostat 2: keeps the surprise of the drawn tokens near `tau`; replaces the other filters.
struct MirostatParams {
  bool on = false;
  float tau = 5.0F;  // bits, (0, 100]
  float eta = 0.1F;  // rate of learning, [0, 1]
};

struct SamplingParams {
  float temperature = 1.0F;         // 0 = greedy .. 2
  float top_p = 1.0F;               // (0, 1]
  std::int32_t top_k = 0;           // 0 = off
  float min_p = 0.0F;               // [0, 1]
  float presence_penalty = 0.0F;    // [-2, 2], over generated tokens
  float frequency_penalty = 0.0F;   // [-2, 2], over generated tokens
  float repetition_penalty = 1.0F;  // (0, 2], over prompt and generated tokens
  std::uint64_t seed = 0;           // the frontend draws one if the client gave none
  std::vector<std::pair<TokenId, float>> logit_bias = {};  // token < vocab, bias in [-100, 100]
  float top_a = 0.0F;      // [0, 1]: only tokens at least top_a x (the best one's probability)^2
  float typical_p = 1.0F;  // (0, 1]
  DryParams dry = {};
  XtcParams xtc = {};
  MirostatParams mirostat = {};
  std::vector<TokenId> allowed_token_ids = {};       // empty = all
  std::vector<std::vector<TokenId>> bad_words = {};  // token sequences the output must not contain
};

/// A logits processor that the request asks for, by its name in the worker's allow-list.
struct LogitsProcessorCall {
  std::string name;
  std::string arguments;  // a JSON object, or empty
};

struct StopConditions {
  std::uint32_t max_tokens =
      0;  // 1 .. context; 0 only with prompt_logprobs (echo without generation)
  std::uint32_t min_tokens = 0;  // end-of-sequence and stop ids are not sampled before
  bool ignore_eos = false;
  std::vector<TokenId> eos_token_ids;   // end of sequence: never part of the text
  std::vector<TokenId> stop_token_ids;  // the client's own
};

struct GenerateRequest {
  RequestId id{};
  std::uint32_t attempt = 0;
  std::string model;
  std::string adapter;             // name of a loaded one; empty: the model alone
  std::string adapter_version;     // which it must be, as a frame said; empty: any
  std::vector<TokenId> prompt;     // 1 .. context tokens
  std::uint32_t choice_count = 1;  // n
  std::vector<std::vector<TokenId>>
      generated;  // per choice, tokens already given to the client; empty = none
  SamplingParams sampling;
  StopConditions stop;
  std::int32_t top_logprobs =
      -1;                        // -1: no logprobs; 0 .. 20: of the chosen token and that many best
  bool prompt_logprobs = false;  // also of the prompt's tokens (echo with logprobs)
  std::int32_t priority = 0;     // higher first
  std::string tenant;            // from the authenticated key; part of KV identity
  std::string cache_salt;        // a client's own part of it; empty: none
  std::int64_t deadline_left_ns = 0;            // 0: none
  std::vector<LogitsProcessorCall> processors;  // applied in this order
  bool processed_logprobs = false;  // logprobs of the row as it is sampled, not of the model's own
  /// Per choice, `TokenFrame::state` of the last frame in `generated`; empty = none.
  std::vector<std::string> states;
  /// What the generated text must look like.
  std::optional<Constraint> constraint;
  /// The prompt is read and nothing generated: one choice, max_tokens 0.
  std::optional<PoolParams> pool;
  /// The data-parallel rank of its worker that computes it; nothing: the worker chooses.
  std::optional<std::uint32_t> dp_rank;
  /// How long it waits for a place at `dp_rank` before any rank may take it; -1: for ever.
  std::int64_t dp_rank_wait_ns = -1;
  /// Requests of one session that name no rank stay at one; empty: none.
  std::string session;
  /// It was the session's last request: what is kept for the session is let go with it.
  bool session_final = false;
  /// For whoever routes it. Nothing: as the router likes.
  std::optional<RoutingHints> routing;
  /// Another worker goes on after the first token of each choice: the prompt's KV blocks are kept
  /// for it, and the answer says where they are.
  bool prefill_only = false;
  /// HandoverRecord of the worker that computed the prompt; empty: nobody did.
  std::string handover;
  /// With prefill_only: whoever asks takes a record of blocks that are still to come.
  bool early_handover = false;
  /// Nothing is computed: the prompt's blocks that can be had are brought into the cache, and its
  /// only choice ends with kLength and as many cached_tokens as are there then.
  bool fetch_only = false;
  /// Pictures and films of the prompt, in its order; their tokens do not overlap.
  std::vector<MediaItem> media;
  /// For a worker that encodes: it answers with a FeatureRecord of `media`, one item, as a frame's
  /// `handover`, and keeps its features until its only choice has ended.
  bool encode_only = false;
  /// W3C trace context, whose span is the attempt's; empty: nobody traces it.
  std::string traceparent;
  std::string tracestate;
  /// The client's x-request-id, a label.
  std::string label;
};

struct TokenLogprob {
  float logprob = 0.0F;  // of the chosen token, natural logarithm, before sampling filters
  std::vector<std::pair<TokenId, float>> top;  // best first, at most top_logprobs
};

enum class FinishReason : std::uint8_t { kStop, kLength, kCancelled, kError };

inline constexpr std::uint32_t kStateBytesMax = 4096;

/// Tokens of one choice of one request. Frames of a choice come in order; its last one has
/// `finish`. A request ends when each of its choices has ended, each exactly once.
struct TokenFrame {
  RequestId id{};
  std::uint32_t choice = 0;
  std::vector<TokenId> tokens;
  std::vector<TokenLogprob> logprobs;  // [tokens] if asked for
  std::vector<TokenLogprob>
      prompt_logprobs;  // [prompt], first is empty; in the first frame of choice 0 if asked for
  std::uint32_t cached_tokens =
      0;  // prompt tokens found in the prefix cache; in a choice's first frame
  std::string adapter_version;  // of the adapter it is computed with; in a choice's first frame
  std::optional<FinishReason> finish;
  std::optional<TokenId> stop_token;  // the stop or end token that ended it; it is not in `tokens`
  std::optional<float> stop_logprob;  // of stop_token, if logprobs were asked for
  std::optional<Error> error;         // with kError
  /// What the tokens cannot give back of how the choice goes on; opaque, at most kStateBytesMax.
  std::string state;
  std::vector<float> pooled;  // what `pool` asked for, in the last frame
  /// The rank that computes it, of a worker that has several; in a choice's first frame.
  std::optional<std::uint32_t> dp_rank;
  /// In the first frame from each worker, if one of several was chosen.
  std::optional<WorkerRank> served_by;
  /// In a choice's first frame from each worker, where several may compute it: that worker's.
  std::string numerics_id;
  /// HandoverRecord, in the last frame with tokens of a request that is prefill_only. The choices
  /// that another worker may go on with end when nothing is kept for it any more.
  std::string handover;
  /// HandoverRecord of the blocks so far of a request that asked for it, once, before its tokens.
  std::string early_handover;
  /// In a choice's last frame from a worker, before a hand-over in the last with tokens: one, with
  /// the worker's times. Behind the fleet: the attempts that ended since the frame before.
  std::vector<RequestLeg> legs;
};

struct CancelRequest {
  RequestId id{};
  std::optional<std::uint32_t> choice;  // nothing: all choices
};

/// What a worker says of itself when it joins.
struct ModelCard {
  std::string name;         // as requests name it
  std::string fingerprint;  // identity of config and weights
  std::string numerics_id;  // what bits depend on: kernels, instruction set, KV dtype
  std::uint32_t vocab_size = 0;
  std::uint32_t context_tokens_max = 0;  // prompt + output
  std::uint32_t block_tokens = 0;
  std::uint32_t block_count = 0;
  std::uint32_t batch_sequences_max = 0;
  std::uint32_t batch_tokens_max = 0;
  std::vector<TokenId> eos_token_ids;
  TokenId bos_token_id = -1;
  std::vector<std::string> logits_processors;  // names that requests may ask for
  std::vector<AdapterCard> adapters;           // that requests may name, by name; changes
  ModelTask task = ModelTask::kGenerate;
  std::uint32_t feature_count = 0;     // floats of a pooled result; 0: a generator's
  std::uint32_t token_type_count = 0;  // of an encoder; 0: it knows no types
  std::optional<VisionCard> vision;    // nothing: it reads text alone
};

}  // namespace pixii::wire
