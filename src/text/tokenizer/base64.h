// Base64 as tokenizer files hold bytes in it. Source: RFC 4648 section 4.
//
// Thread: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pixii::text {

/// Nothing if a character is of another alphabet. Missing padding is allowed.
std::optional<std::string> DecodeBase64(std::string_view text);

std::string EncodeBase64(std::string_view bytes);

}  // namespace pixii::text
