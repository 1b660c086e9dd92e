// The web page's files. page_assets.cc is written by the build, from web/.
#pragma once

#include <span>

#include "frontend/page_asset.h"

namespace pixii::apps {

/// Empty: it was built without npm.
std::span<const frontend::PageAsset> PageAssets();

}  // namespace pixii::apps
