// Bodies of /v1/videos and /v1/images/generations: OpenAI's fields, Dynamo's nvext, and what
// TensorRT-LLM has beside them.
//
// Thread: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/media_maker.h"
#include "wire/json.h"
#include "wire/multipart.h"

namespace pixii::frontend {

inline constexpr std::int32_t kMediaSideMax = 4096;  // pixels
inline constexpr std::uint32_t kPromptCharactersMax = 32'000;
inline constexpr std::uint32_t kImagesMax = 10;  // of a request

struct MediaRules {
  std::uint64_t pixels_max = std::uint64_t{1} << 27;  // width * height * frames * pictures
  bool ignore_unknown = false;                        // unknown fields are dropped, not refused
};

struct MediaRequest {
  MediaSpec spec;
  bool synchronous = false;  // Dynamo's form: the answer names the file or has it
  bool placed = false;       // response_format is there
  bool base64 = false;       // in the answer; else its URL
};

/// `seed`: used if the request gives none. Errors: kNotFound (model), kInvalidArgument,
/// kUnsupported, kTooLarge; with param.
Result<MediaRequest> ReadVideoRequest(const wire::Json& body, const MediaModel& model,
                                      std::uint64_t seed, const MediaRules& rules);

Result<MediaRequest> ReadImageRequest(const wire::Json& body, const MediaModel& model,
                                      std::uint64_t seed, const MediaRules& rules);

/// The fields of a form as the JSON body that means the same; input_reference may be a file, which
/// becomes a data: URL. Errors: kInvalidArgument, kUnsupported (another file).
Result<wire::Json> BodyOfForm(const std::vector<wire::FormPart>& parts);

}  // namespace pixii::frontend
