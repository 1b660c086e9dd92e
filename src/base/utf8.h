// UTF-8 without tables: sequence length and validity. Source: RFC 3629 section 4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pixii {

/// Bytes of the well-formed sequence at the start of `text`, 1 to 4, or 0 if there is none.
std::size_t Utf8SequenceLength(std::string_view text);

/// How many bytes at the end of `text` are the beginning of a sequence that more bytes could
/// complete, 0 to 3.
std::size_t Utf8IncompleteTail(std::string_view text);

bool IsValidUtf8(std::string_view text);

/// Decodes the well-formed sequence at the start of `text`. Pre: Utf8SequenceLength(text) > 0.
char32_t DecodeUtf8(std::string_view text);

void AppendUtf8(std::string& out, char32_t code_point);

}  // namespace pixii
