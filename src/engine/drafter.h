// Guesses what a sequence says next, so that one step of the model can judge several tokens.
//
// Thread: the engine thread.
// A guess never changes an answer: the engine takes it only if it equals the token that the
// request's own draw picks from the model's own row. docs/subsystems/engine.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "engine/executor.h"
#include "kernels/step.h"
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

/// What the model computed of a sequence in a step, as far as it counts.
struct ObservedRows {
  DraftKey key{};
  std::size_t begin = 0;           // position of the first row
  std::span<const TokenId> after;  // [rows] the token behind each
  std::span<const float> states;   // [rows, hidden_size]
};

class Drafter {
 public:
  virtual ~Drafter() = default;

  virtual void Draft(std::span<DraftRequest> requests) = 0;

  /// Floats of a row that Observe wants; 0: nothing.
  virtual std::uint32_t hidden_size() const { return 0; }

  /// After each step, if hidden_size() is not 0: what sequences gained.
  virtual void Observe(std::span<const ObservedRows> /*observed*/) {}

  /// `key` will not be asked for again.
  virtual void Forget(DraftKey key) = 0;

  /// As StepExecutor's, of what it has itself. Pre: no key is remembered by the engine.
  virtual Result<void> Release(const MemoryParts& /*parts*/) { return {}; }

  virtual Result<void> Restore(const MemoryParts& /*parts*/) { return {}; }
};

class Sampler;

/// The guess that `row` gives behind `generated`: drawn as the request's own token of that
/// position. kNoToken: nothing may follow.
TokenId DrawGuess(Sampler& sampler, const DraftRequest& draft, std::span<const TokenId> generated,
                  std::span<float> row);

}  // namespace pixii::engine
