// What a caller named the fields of the common request, so that errors name what was written.
//
// Thread: values.
// Readers of a surface write its body in the form of OpenAI's completions, and all rules behind
// them know the names of that form alone. A surface gives its names for them in one table; what one
// body decides ("parameters.top_k", "nvext.top_k") its reader adds.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pixii::frontend {

/// `inner` stands for itself and for what is inside it: "response_format" for
/// "response_format.type" too. "[]" is any index, and the same one in `outer`: "tools[].function",
/// "tools[]".
struct FieldName {
  std::string inner;
  std::string outer;
};

class FieldNames final {
 public:
  FieldNames() = default;

  explicit FieldNames(std::vector<FieldName> names) : names_(std::move(names)) {}

  void Add(FieldName name) { names_.push_back(std::move(name)); }

  /// The caller's name of `field`: by the longest that fits, the first of equals; else itself.
  std::string Of(std::string_view field) const;

  /// `error` with the caller's names in its param and its sentence. Text in double quotes is a
  /// value and stays; so do plain words ("user") but where the sentence begins with the param.
  Error InCallersWords(const Error& error) const;

  /// These and then `outer`, whose callers wrote what these call outer.
  FieldNames Then(const FieldNames& outer) const;

 private:
  std::string Sentence(std::string_view text) const;

  std::vector<FieldName> names_;
};

}  // namespace pixii::frontend
