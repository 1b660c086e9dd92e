// Features that a client brings in place of a picture: a safetensors file of what the model's own
// tower, or another, made of it.
//
// Thread: pure functions. docs/multimodal.md
// The file is hostile until it is read; files that only a program could read (.pt and its like) are
// refused by their names and by what they begin with.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "wire/messages/media.h"

namespace pixii::frontend {

inline constexpr std::size_t kFeatureHeaderBytesMax = 65'536;

/// Whether `url`, which names a picture, is the address of such a file.
bool IsFeatureUrl(std::string_view url);

/// An item of the features in `file`, without `begin`, for the tower behind `card`. The tensor is
/// mm_embeddings or image_embeds, or the only one that no other name explains: [rows, values] or
/// [1, rows, values], of F32, F16, BF16 or F64. image_grid_thw says how its rows lie, where the
/// model wants to know. `name`: of the file or what it came as; it stands in no error. Errors:
/// kInvalidArgument and kUnsupported naming the tensor, its value and what is allowed.
Result<wire::MediaItem> ReadFeatures(std::string_view file, std::string_view name,
                                     const wire::VisionCard& card);

}  // namespace pixii::frontend
