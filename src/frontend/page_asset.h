// A file of the web page, as the build made it.
//
// Thread: immutable.
#pragma once

#include <string_view>

namespace pixii::frontend {

/// All views live as long as the process.
struct PageAsset {
  std::string_view path;  // "/", or "/page/NAME-HASH.js"
  std::string_view content_type;
  std::string_view etag;   // with its quotes, of `plain`
  std::string_view plain;  // as the browser uses it
  std::string_view gzip;   // the same, compressed
};

}  // namespace pixii::frontend
