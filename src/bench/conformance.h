// What an OpenAI-compatible server is asked, and how its answers are judged: one table of cases,
// the judging pure, the asking at the edge. docs/conformance.md
//
// Thread: values; RunConformance is a coroutine of one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "rt/net.h"
#include "wire/http.h"
#include "wire/json.h"

namespace pixii::bench {

/// What came back of one request.
struct ServerAnswer {
  std::string failure;  // why there is no whole answer; empty: there is one
  int status = 0;       // 0: none came
  std::vector<wire::HttpField> fields;
  std::string body;
  double total_ms = 0;

  /// Value of a header field; empty if it has none.
  std::string_view Field(std::string_view name) const;
};

/// One request. Text parts may say $MODEL, which becomes the model's name as a JSON string.
struct Ask {
  std::string method = "POST";
  std::string path = "/v1/chat/completions";
  std::string body;
  std::vector<wire::HttpField> fields = {};
  std::string raw = {};  // all bytes of the request, in place of what is above
  /// Hangs up after so many events of the answer; 0: at once when all is sent. Negative: never.
  std::int32_t hang_up_after = -1;
  /// Asked again until this is true or patience ends; the last answer counts. Null: asked once.
  std::function<bool(const ServerAnswer&)> until = nullptr;
};

enum class Outcome : std::uint8_t { kPass, kFail, kNotSupported };

struct Verdict {
  Outcome outcome = Outcome::kFail;
  std::string evidence;  // one line
};

/// Who says that it must be so.
enum class Authority : std::uint8_t {
  kOpenAi,  // OpenAI's API reference, or an RFC that it stands on
  kOurs,    // Pixii promises it, others need not
};

struct ConformanceCase {
  std::string group;
  std::string name;
  Authority authority = Authority::kOurs;
  std::string source;  // where it is written
  std::string asks;    // what must hold, in a sentence
  /// The asks of a step are sent at once, the steps one after another.
  std::vector<std::vector<Ask>> steps;
  /// Of all answers, in the order of the asks.
  std::function<Verdict(std::span<const ServerAnswer>)> judge;
};

/// Every case, in the order in which they run. Names are unique.
std::vector<ConformanceCase> ConformanceCases();

/// The cases of `errors`: one for each field and kind of value, from a table of fields.
std::vector<ConformanceCase> FieldCases();

struct ConformanceOptions {
  rt::Address server;
  std::string host;                                       // as the field Host has it
  std::string base_path;                                  // before /v1, mostly empty
  std::string api_key;                                    // empty: none
  std::string model;                                      // empty: the first that the server lists
  std::vector<std::string> only;                          // groups, or group/name; empty: all
  rt::Duration patience = std::chrono::seconds(60);       // for one answer
  rt::Duration load_patience = std::chrono::seconds(15);  // for what is asked again
};

struct ConformanceRow {
  ConformanceCase asked;
  Verdict verdict;
};

struct ConformanceReport {
  std::string model;
  std::vector<ConformanceRow> rows;

  /// Those that count: neither passed nor unsupported.
  std::size_t failed() const;
  std::string ToText() const;
  wire::Json ToJson() const;
};

/// Those of `cases` that `only` names. Errors: kInvalidArgument for a word that names none.
Result<std::vector<ConformanceCase>> SelectCases(std::vector<ConformanceCase> cases,
                                                 const std::vector<std::string>& only);

/// Asks the server all of it. Errors: kUnavailable if nobody listens or no model is named anywhere;
/// SelectCases'.
rt::Task<Result<ConformanceReport>> RunConformance(rt::Loop& loop, rt::Net& net,
                                                   ConformanceOptions options);

}  // namespace pixii::bench
