// The shared images and what Pillow made of them: golden.json, and arrays of bytes beside it.
#pragma once

#include <optional>
#include <string>

#include "media/image.h"
#include "wire/json.h"

namespace pixii::media {

/// A folder with golden.json; nothing where the shared data is absent.
std::optional<std::string> GoldenImagesDir();

wire::Json GoldenImages(const std::string& folder);

/// An array [height][width][3] of bytes in NumPy's format, version 1.0.
Image ReadNpy(const std::string& path);

}  // namespace pixii::media
