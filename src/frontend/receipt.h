// What proves an answer: a receipt that a reply carries, and a record that `pixii replay` repeats.
// docs/formats/record.md
//
// Thread: values and pure functions. A token hash is SHA-256 over the ids as 32-bit little-endian
// integers, in order.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "frontend/openai_request.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// The tokens of a choice from `first_token` on were computed under `numerics_id`.
struct ComputedPart {
  std::uint64_t first_token = 0;
  std::string numerics_id;

  friend bool operator==(const ComputedPart&, const ComputedPart&) = default;
};

/// In order; several where the choice went on at a worker that computes with other bits, which
/// first recomputed what was there. Empty: only the model's own worker computes.
using ComputedParts = std::vector<ComputedPart>;

/// What comes behind `token_count` tokens is computed under `numerics_id`.
void AddPart(ComputedParts& parts, std::uint64_t token_count, const std::string& numerics_id);

/// [{"first_token", "numerics_id"}, …].
void AppendParts(std::string& out, const ComputedParts& parts);

/// Tokens of one choice up to its end, as the engine drew them.
struct ChoiceTranscript {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;   // [tokens] of the chosen tokens, if the request asked for them
  bool ended_by_engine = false;  // false: a stop string was found in its text
  ComputedParts computed = {};
};

struct Receipt {
  std::string fingerprint;  // of config and weights
  std::string numerics_id;  // what bits depend on beside them; of the first choice's first token
  std::uint64_t seed = 0;
  std::string adapter = {};                  // its name; empty: the model alone
  std::string adapter_version = {};          // fingerprint of its files
  std::vector<std::uint32_t> token_counts;   // [choices]
  std::vector<std::string> token_hashes;     // [choices]
  std::vector<ComputedParts> computed = {};  // [choices]; empty where it is `numerics_id` alone
};

std::string TokenHash(std::span<const TokenId> tokens);

/// Of a request that was sent as `request`; its adapter_version is that of the answer's frames.
Receipt MakeReceipt(const wire::ModelCard& card, const wire::GenerateRequest& request,
                    std::span<const ChoiceTranscript> choices);

/// The object behind "receipt". The seed is a string: it may be past what a double holds.
void AppendReceipt(std::string& out, const Receipt& receipt);

/// Everything that a repetition needs, and what came out.
struct RequestRecord {
  std::string id;  // of the response: the file's name
  Surface surface = Surface::kChat;
  std::string model;  // as it was served
  std::uint32_t context_tokens_max = 0;
  std::string body;  // the client's JSON
  std::vector<std::vector<TokenId>>
      prompts;  // what the texts became: templates may print today's date
  Receipt receipt;
  std::vector<ChoiceTranscript> choices;  // [prompts x n]
};

std::string RecordJson(const RequestRecord& record);

/// Errors: kDataCorrupt naming the field.
Result<RequestRecord> ParseRecord(std::string_view text);

/// Takes records of requests that were answered whole. Must not block: called on the I/O loop.
using RecordSink = std::function<void(RequestRecord)>;

}  // namespace pixii::frontend
