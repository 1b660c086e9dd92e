// The field `disaggregated_params` of requests and answers: a prompt computed by one server, the
// answer gone on with by another.
//
// Thread: pure functions. docs/kv_transfer.md
// Source: names and types of spec/trtllm-backend.md 2.5.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/json.h"

namespace pixii::frontend {

struct DisaggregatedParams {
  bool context_only = false;              // compute the prompt, and keep it for another
  bool generation_only = false;           // go on behind `first_gen_tokens`
  std::vector<TokenId> first_gen_tokens;  // of generation_only
  std::string opaque_state;               // the record of what is kept; of generation_only
};

/// Errors: kInvalidArgument naming the member, kUnsupported for those that nothing is done with
/// here (media, generation first).
Result<DisaggregatedParams> ReadDisaggregatedParams(std::string_view field,
                                                    const wire::Json& value);

/// What a context-only answer says, as ,"disaggregated_params":{...}. `request`: its id; `rank`: of
/// the worker that keeps it.
std::string DisaggregatedMember(const DisaggregatedParams& params, std::uint64_t request,
                                std::uint32_t rank);

}  // namespace pixii::frontend
