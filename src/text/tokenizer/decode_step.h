// One step of a decoder: takes a token, passes on what is final, keeps what is not.
//
// Thread: immutable; the state is the caller's.
#pragma once

#include <string>
#include <string_view>

#include "text/tokenizer/decoder.h"

namespace pixii::text {

/// Takes the next token that a step passes on.
class DecodeSink {
 public:
  virtual void Take(std::string_view token) = 0;

 protected:
  ~DecodeSink() = default;
};

class DecodeStep {
 public:
  DecodeStep() = default;
  DecodeStep(const DecodeStep&) = delete;
  DecodeStep& operator=(const DecodeStep&) = delete;
  virtual ~DecodeStep() = default;

  virtual void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const = 0;

  virtual void Finish(DecodeStepState& /*state*/, DecodeSink& /*next*/) const {}

  virtual void DropHeldPrompt(DecodeStepState& /*state*/) const {}

  /// After how many tokens of a byte or more its state says nothing of those before them; 0: never.
  virtual std::size_t MemoryTokens() const { return 0; }

  /// How many times longer a token may become at most.
  virtual std::size_t Growth() const { return 1; }

  /// The bytes of one token inside a text.
  virtual std::string PieceBytes(std::string piece) const { return piece; }
};

}  // namespace pixii::text
