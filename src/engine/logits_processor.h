// A logits processor: code that changes rows of logits after the request's own rules (row_rules.h)
// and before the draw. docs/subsystems/engine.md
//
// Thread: the engine thread.
// A processor is made once for a worker; Open checks one request's arguments; Process gets, in each
// step, the rows of all requests that asked for it. What it does to a row must depend on what the
// row holds alone (never on the other rows or on earlier steps): a choice is continued elsewhere
// from its tokens and `state`.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/json.h"

namespace pixii::engine {

/// The arguments of one request, checked and in the form the processor wants.
class ProcessorCall {
 public:
  virtual ~ProcessorCall() = default;

  /// Another prompt whose logits, behind the same generated tokens, the processor wants as
  /// ProcessorRow::second. Empty: none.
  virtual std::span<const TokenId> second_prompt() const { return {}; }
};

struct ProcessorRow {
  RequestId request{};
  std::uint32_t choice = 0;
  const ProcessorCall* call = nullptr;
  std::span<const TokenId> prompt;
  std::span<const TokenId> generated;         // its size is the output position
  std::span<const TokenId> end_ids;           // that end the sequence
  std::span<float> logits;                    // [vocab], changed in place
  std::span<const float> second;              // [vocab] after second_prompt(), or empty
  std::string* state = nullptr;               // what tokens cannot give back; empty at the start
  std::optional<Error> error = std::nullopt;  // set by the processor: it failed on this row
};

struct ProcessorContext {
  std::uint32_t vocab_size = 0;
  std::span<const TokenId> prompt;
  std::span<const TokenId> end_ids;
};

class LogitsProcessor {
 public:
  virtual ~LogitsProcessor() = default;

  virtual std::string_view name() const = 0;

  /// Errors: kInvalidArgument naming the argument, its value and the limit.
  virtual Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                                      const ProcessorContext& context) const = 0;

  /// Changes the rows, or sets `error` in those it failed on; what it did to them is undone then.
  virtual void Process(std::span<ProcessorRow> rows) = 0;

  /// Process never sets an error: rows need not be kept to undo it.
  virtual bool cannot_fail() const { return false; }
};

}  // namespace pixii::engine
