// Guesses what a sequence says next, so that one step of the model can judge several tokens.
//
// Thread: the engine thread.
// A guess never changes an answer: the engine takes it only if it equals the token that the
// request's own draw picks from the model's own row. docs/subsystems/engine.md
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "engine/executor.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

/// Names a sequence for as long as a drafter may remember it.
enum class DraftKey : std::uint64_t {};

struct DraftRequest {
  DraftKey key{};
  const wire::GenerateRequest* request = nullptr;  // prompt and how it samples
  std::uint32_t choice = 0;
  std::span<const TokenId> generated;
  std::uint32_t count_max = 0;              // guesses wanted at most, at least 1
  std::vector<TokenId>* guesses = nullptr;  // empty; takes them
};

class Drafter {
 public:
  virtual ~Drafter() = default;

  virtual void Draft(std::span<DraftRequest> requests) = 0;

  /// `key` will not be asked for again.
  virtual void Forget(DraftKey key) = 0;

  /// As StepExecutor's, of what it has itself. Pre: no key is remembered by the engine.
  virtual Result<void> Release(const MemoryParts& /*parts*/) { return {}; }

  virtual Result<void> Restore(const MemoryParts& /*parts*/) { return {}; }
};

}  // namespace pixii::engine
