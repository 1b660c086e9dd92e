// How outside engines hand a prompt's KV over to one another, in their own words: what a prefill
// engine is asked, what it says of the blocks that it keeps, and how a decode engine is told.
//
// Thread: pure functions. docs/attached_engines.md
// Sources: vLLM's kv_transfer_params (its NIXL connector), trtllm-serve's disaggregated_params,
// SGLang's bootstrap_host, bootstrap_port and bootstrap_room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "worker/engine_dialect.h"

namespace pixii::worker {

/// Of one request: what its prefill engine said, for each choice, as JSON.
struct EngineHandover {
  EngineKind kind = EngineKind::kVllm;
  std::vector<std::string> choices;
};

/// Bytes that travel in wire::GenerateRequest::handover; only who has the cluster's key makes them,
/// for they tell an engine where to connect to.
std::string EncodeEngineHandover(const EngineHandover& handover, const HashKey& key);

/// Errors: kDataCorrupt (no such record, or not of this key).
Result<EngineHandover> DecodeEngineHandover(std::string_view bytes, const HashKey& key);

/// Whether engines of this kind have words for it.
bool CanHandOver(EngineKind kind);

/// Whether a decode engine of this kind computes a prompt that nobody hands over.
inline bool ComputesPrompts(EngineKind kind) { return kind != EngineKind::kSglang; }

/// Where SGLang's prefill engine waits for decode engines.
struct BootstrapPlace {
  std::string host;
  std::uint16_t port = 0;
};

/// What SGLang's two engines are told of one request, both at once.
std::string BootstrapWords(const BootstrapPlace& place, std::uint64_t room);

/// `call` asks for one choice: what is returned asks a prefill engine to compute its prompt and to
/// keep it. `words`: of BootstrapWords, SGLang; else not looked at.
Result<EngineCall> AsPrefill(EngineKind kind, const EngineCall& call, std::string_view words);

/// What a prefill engine's whole answer says that the decode engine must hear. Errors:
/// kDataCorrupt: nothing.
Result<std::string> ReadPrefillAnswer(EngineKind kind, std::string_view body);

/// `call` asks for one choice: what is returned has its prompt's KV fetched by `words`.
Result<EngineCall> AsDecode(EngineKind kind, const EngineCall& call, std::string_view words);

}  // namespace pixii::worker
