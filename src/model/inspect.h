// Says what a checkpoint is and what it needs, without loading it: the library behind `pixii
// inspect`.
//
// Thread: one caller; reads headers, the tokenizer's kind and the fingerprint's samples only.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/language_model.h"
#include "wire/json.h"

namespace pixii::model {

inline constexpr std::uint64_t kTokenizerSizeMax = std::uint64_t{256}
                                                   << 20;  // bytes of tokenizer.json

struct InspectOptions {
  std::uint64_t memory_bytes = 0;  // what model and KV cache may take; 0 = say nothing about fit
  LoadOptions load = {};           // sizes the workspace
};

struct DTypeShare {
  std::uint64_t tensor_count = 0;
  std::uint64_t size_bytes = 0;
};

struct InspectReport {
  std::string folder;
  ModelSpec spec;
  std::int32_t head_count = 0;
  std::int32_t intermediate_size = 0;
  bool tied_head = false;
  std::int32_t window_layer_count = 0;  // layers with a sliding window
  std::int32_t window_tokens = 0;       // the largest window; 0 = none
  std::string rope;                     // "default", "llama3"
  std::vector<std::string> files;       // with weights
  std::uint64_t checkpoint_size_bytes = 0;
  std::map<std::string, std::uint64_t> parameters;  // by kind: "attention", "embedding", …
  std::map<std::string, DTypeShare> dtypes;         // as stored: "BF16", …
  std::string tokenizer;  // "BPE", "Unigram", "SentencePiece file", "none", …
  bool has_chat_template = false;

  // Memory of the CPU engine in bf16.
  std::uint64_t weights_bytes =
      0;  // prepared; a tied head counts twice, as table and as projection
  std::uint64_t workspace_bytes = 0;     // scratch of the largest step, and rotation tables
  std::uint64_t kv_bytes_per_token = 0;  // bf16, all layers
  std::uint64_t memory_bytes = 0;        // as asked
  std::uint64_t kv_tokens_fit = 0;       // tokens of KV in what memory_bytes leaves
  std::uint64_t full_contexts_fit = 0;   // sequences of the whole context

  wire::Json ToJson() const;
  std::string ToText() const;
};

/// Errors: those of LanguageModel::Load that can be seen without reading the weights.
Result<InspectReport> InspectFolder(const std::string& folder, const InspectOptions& options = {});

}  // namespace pixii::model
