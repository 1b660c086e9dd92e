// Base64: bytes in JSON and in the files of tokenizers. Source: RFC 4648 section 4.
//
// Thread: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pixii::wire {

/// Nothing if a character is of another alphabet. Missing padding is allowed.
std::optional<std::string> DecodeBase64(std::string_view text);

std::string EncodeBase64(std::string_view bytes);

}  // namespace pixii::wire
