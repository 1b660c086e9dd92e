// From Oniguruma's dialect of regular expressions, in which tokenizer files are written, to
// PCRE2's.
//
// Thread: pure functions. Source: Oniguruma doc/RE (Ruby syntax), pcre2pattern(3).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::text {

/// The same pattern for PCRE2 with UTF, UCP and MULTILINE. Translates \s \S \w \W \h \H, which mean
/// other sets of characters there, and flattens classes within classes. Errors: kUnsupported for
/// class intersections and negated classes within classes.
Result<std::string> ToPcre2(std::string_view pattern);

}  // namespace pixii::text
