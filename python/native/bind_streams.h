// What the classes of the module that give answers in pieces have in common.
//
// Thread: each call holds the interpreter's lock; what waits gives it back meanwhile.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "streams.h"

namespace pixii::python {

/// A call that writes to `descriptor` when there is something to take; below 0: nothing. The other
/// side owns it.
std::function<void()> WakeBy(int descriptor);

/// As dictionaries; waits up to `seconds` for one, and raises what a signal's handler raised.
pybind11::list TakeAnswers(const std::shared_ptr<Streams>& streams, std::uint64_t key,
                           double seconds, std::size_t prompt_tokens);

void BindClient(pybind11::module_& module);
void BindEngine(pybind11::module_& module);

}  // namespace pixii::python
