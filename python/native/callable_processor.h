// Callables of Python's as one logits processor: a request names which by number.
//
// Thread: Process on the engine's, where it takes the interpreter's lock; CallableTable where that
// is held.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <map>
#include <memory>

#include "engine/logits_processor.h"

namespace pixii::python {

inline constexpr const char* kCallableProcessor = "python";

/// Callables that requests under way name.
class CallableTable final {
 public:
  std::uint64_t Add(pybind11::object callable);

  void Remove(std::uint64_t number) { callables_.erase(number); }

  /// Null: it was removed.
  pybind11::object Find(std::uint64_t number) const;

  void Clear() { callables_.clear(); }

 private:
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, pybind11::object> callables_;
};

/// What a request says to be given to the callable `number`.
std::string CallableArguments(std::uint64_t number);

/// Calls `callable(tokens, logits)`: `tokens` the prompt and the output so far, `logits` a
/// memoryview of [vocab] floats that it may change in place, both for the time of the call alone.
/// One that raises, or keeps a view, fails its own request.
std::unique_ptr<engine::LogitsProcessor> MakeCallableProcessor(
    std::shared_ptr<CallableTable> callables);

/// The type of `tokens`.
void BindTokens(pybind11::module_& module);

}  // namespace pixii::python
