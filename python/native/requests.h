// Dictionaries as requests and answers as dictionaries: what a client of an endpoint or of an
// engine in this process says and gets. Names of the fields: spec/dynamo-core.md A.10, A.11.
//
// Thread: one that holds the interpreter's lock.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "streams.h"
#include "wire/messages/generate.h"

namespace pixii::python {

/// What a request means that does not say it.
struct RequestDefaults {
  wire::SamplingParams sampling = {};
  std::vector<TokenId> eos_token_ids = {};
  std::uint32_t context_tokens = 0;
  std::uint32_t vocab_size = 0;
  std::uint64_t seed = 0;
};

/// Raises InvalidArgument naming the field for what cannot be read, Unsupported for what a request
/// has no place for: nothing is dropped in silence.
wire::GenerateRequest RequestOf(pybind11::dict request, const RequestDefaults& defaults);

/// `prompt_tokens`: of the request. An error becomes {"error": (code, detail, param)}.
pybind11::dict AnswerDict(const Piece& piece, std::size_t prompt_tokens);

}  // namespace pixii::python
