// multipart/form-data: a whole body as its parts.
//
// Thread: values; the parts point into the body.
// Strict where two readers could disagree: no text before the first part, one name a part, no
// transfer encoding. Source: RFC 7578, RFC 2046 section 5.1, RFC 2183 (file names), RFC 5987
// (filename*).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::wire {

struct MultipartLimits {
  std::uint32_t part_count_max = 16;
  std::uint32_t head_bytes_max = 4 * 1024;  // fields of one part
};

struct FormPart {
  std::string name;
  std::optional<std::string> filename;  // nothing: a plain field
  std::string_view content;             // in the body
};

/// `content_type`: the request's, with the boundary. Errors: kUnsupportedMediaType (another type);
/// kInvalidArgument, saying which part and what is wrong with it.
Result<std::vector<FormPart>> ParseMultipart(std::string_view content_type, std::string_view body,
                                             const MultipartLimits& limits = {});

}  // namespace pixii::wire
