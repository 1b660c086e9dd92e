// Requests as dictionaries, and dictionaries that handlers yield as outputs.
//
// Thread: one that holds the interpreter's lock. Names of the fields: spec/dynamo-core.md A.10,
// A.11.
#pragma once

#include <pybind11/pybind11.h>

#include "endpoint_host.h"

namespace pixii::python {

/// What a handler gets of one choice: tokens that a worker before gave stand behind the prompt, and
/// max_tokens is what is left.
pybind11::dict RequestDict(const wire::GenerateRequest& request, std::uint32_t choice);

/// Never fails: what cannot be used becomes an output with an error.
Output OutputOf(CallKey key, pybind11::handle yielded, const EndpointHost& host);

/// kModelFault for a name that is none.
Code CodeNamed(std::string_view name);

/// As an exception of the package: (code name, detail, param).
[[noreturn]] void Raise(const Error& error);

/// Starts what has a thread of its own while other threads run Python; raises its error.
template <class Host>
void StartHost(Host& host) {
  Result<void> started;
  {
    const pybind11::gil_scoped_release released;
    started = host.Start();
  }
  if (!started) {
    Raise(started.error());
  }
}

}  // namespace pixii::python
