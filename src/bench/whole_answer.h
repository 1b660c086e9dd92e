// A completion put together, streamed or not: what the judges of conformance compare.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/conformance.h"
#include "wire/json.h"

namespace pixii::bench {

struct WholeCall {
  std::string id;
  std::string type;
  std::string name;
  std::string arguments;

  friend bool operator==(const WholeCall&, const WholeCall&) = default;
};

struct WholeChoice {
  std::int64_t index = -1;
  std::string role;
  std::string text;
  std::string reasoning;
  std::vector<WholeCall> calls;
  std::vector<std::string> logprob_tokens;
  std::string finish;              // the last finish_reason
  std::uint32_t finish_count = 0;  // chunks that carried one
  std::uint32_t after_finish = 0;  // chunks with something in them behind it
  std::uint32_t role_late = 0;     // chunks with text before any with a role
};

struct WholeAnswer {
  bool streamed = false;
  std::string id;
  std::string object;
  std::string model;
  std::vector<WholeChoice> choices;  // by index
  wire::Json usage;                  // null: none came
  // Of streams:
  std::uint32_t done_count = 0;     // [DONE]
  std::uint32_t after_done = 0;     // events behind the first
  std::uint32_t usage_count = 0;    // chunks with usage
  bool usage_with_choices = false;  // one of them had choices
  bool usage_last = false;          // it was the last chunk
  bool ids_differ = false;          // chunks of one answer with other ids, models or objects

  const WholeChoice* choice(std::int64_t index) const;
};

/// Errors: kUnavailable if there is no whole answer of status 200; kDataCorrupt naming what is not
/// as OpenAI's reference has it.
Result<WholeAnswer> ReadWhole(const ServerAnswer& answer);

}  // namespace pixii::bench
