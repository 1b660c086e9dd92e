// Judges that the tables of conformance cases share, and how their requests are written.
//
// Thread: values.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/conformance.h"
#include "bench/whole_answer.h"

namespace pixii::bench {

using Judge = std::function<Verdict(std::span<const ServerAnswer>)>;
using WholeJudge = Verdict (*)(std::span<const WholeAnswer>);

/// The cases of Responses, embeddings, images and Anthropic's messages.
std::vector<ConformanceCase> SurfaceCases();

/// Key and value of JSON, as text.
using Members = std::vector<std::pair<std::string, std::string>>;

Verdict Passed(std::string evidence = {});
Verdict Failed(std::string evidence);
Verdict NotSupported(std::string evidence);

/// A chat of one short question; `extra` are further members, "" or "\"seed\":7".
Ask Chat(std::string_view extra = {});
/// A chat with these messages (a JSON list).
Ask ChatOf(std::string_view messages, std::string_view extra = {});
/// A text completion.
Ask Completion(std::string_view extra = {});
Ask Post(std::string path, std::string body);
Ask Get(std::string path);
Ask HangUp(Ask ask, std::int32_t after);

Members ChatMembers();
Members CompletionMembers();
/// `members` with `key` replaced or added; an empty value takes it out.
std::string BodyWith(Members members, std::string_view key, std::string_view value);

/// Reads every answer whole before it is judged. What a server refuses with 4xx or 501 is not
/// supported if `optional`, else a failure.
Judge Whole(WholeJudge judge, bool optional = false);

/// What can be wrong with an error: its status, its shape, its `param` (unless that is empty).
Verdict JudgeError(const ServerAnswer& answer, std::span<const int> statuses,
                   std::string_view param);
/// All answers are errors of one of these statuses.
Judge Refused(std::vector<int> statuses, std::string param = {});
/// Every answer is 200 or a clean 4xx, and came in time.
Judge AnsweredOrRefused();

/// Same texts, reasoning, calls and ends of all choices.
bool SameAnswers(const WholeAnswer& a, const WholeAnswer& b);
std::string Shown(const WholeAnswer& answer);

}  // namespace pixii::bench
