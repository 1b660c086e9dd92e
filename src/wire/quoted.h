// A foreign string as it may stand in an error: shortened, control characters escaped, in quotes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pixii::wire {

inline constexpr std::size_t kQuotedSizeMax = 120;  // bytes of the string repeated

std::string Quoted(std::string_view text);

}  // namespace pixii::wire
