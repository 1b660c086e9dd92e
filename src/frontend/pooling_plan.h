// From a request about texts to what the engine reads, and from what it gives to the answer.
//
// Thread: pure functions over values and immutable models.
// How two texts are compared follows from the model: one that classifies with one class reads the
// pair, a generator with score tokens reads a prompt made of the pair, and one that embeds reads
// each text by itself.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "frontend/pooling_request.h"
#include "frontend/quota.h"
#include "frontend/served_model.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// One text for the engine.
struct PoolText {
  std::vector<TokenId> ids;
  std::vector<std::int32_t> types;  // [ids], or empty: all 0
  std::uint32_t skip_tokens = 0;
};

struct PoolingPlan {
  PoolingRequest request;
  std::vector<PoolText> texts;
  std::vector<TokenId> logit_tokens;  // of a generator: yes, and no if there is one
  /// Of vectors that are compared: indices of texts. Empty: text i is result i.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
  std::string adapter;              // empty: the model alone
  std::uint32_t feature_count = 0;  // floats that the engine gives of a text
  std::uint64_t prompt_tokens = 0;  // of all texts

  // Of the answer.
  std::string id;
  std::int64_t created = 0;  // seconds since 1970
  std::vector<wire::HttpField> fields;
  QuotaTicket ticket;  // of its API key
};

/// Errors: kNotFound (model, and a model that does not do this), kInvalidArgument, kUnsupported,
/// kTooLarge, with param.
Result<PoolingPlan> PlanPooling(PoolingRequest request, const ServedModel& model,
                                const wire::ModelCard& card);

/// The JSON of the answer. `results`: [texts], what the engine gave of each.
std::string PoolingBody(const PoolingPlan& plan, const ServedModel& model,
                        const wire::ModelCard& card, std::span<const std::vector<float>> results);

}  // namespace pixii::frontend
