// Bodies of /v1/embeddings, /v1/score, /v1/rerank and /classify as typed values. docs/api.md lists
// every field.
//
// Thread: values. As for generations nothing is ignored: unknown fields are refused by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "frontend/openai_request.h"
#include "wire/json.h"

namespace pixii::frontend {

inline constexpr std::uint32_t kPoolTextsMax = 2048;  // inputs, pairs or documents of a request

struct PoolingRequest {
  Surface surface = Surface::kEmbeddings;
  std::string model;
  FieldNames names;  // the caller's, where a field has two

  std::vector<PromptInput> inputs;                     // embeddings, classify
  std::vector<std::vector<std::int32_t>> token_types;  // [inputs] of token ids; empty: all 0
  std::vector<std::string> first;   // score: one or as many as second; rerank: the query
  std::vector<std::string> second;  // score; rerank: the documents

  bool base64 = false;                      // embeddings
  std::optional<std::uint32_t> dimensions;  // embeddings
  std::optional<std::string> prompt_name;   // embeddings: input_type, prompt_name
  std::optional<std::string> instruction;   // score, rerank: of a reranker with a chat template
  std::optional<std::int64_t> truncate_prompt_tokens;  // -1: as many as the model takes
  std::optional<std::uint32_t> max_tokens_per_doc;     // rerank
  std::optional<std::uint32_t> top_n;                  // rerank
  bool return_documents = true;                        // rerank
  bool activate = true;                                // score, rerank, classify: use_activation
  bool add_special_tokens = true;
  bool receipt = false;
};

/// Errors: kInvalidArgument and kUnsupported, always with the field as param.
Result<PoolingRequest> ParsePoolingRequest(const wire::Json& body, Surface surface);

}  // namespace pixii::frontend
