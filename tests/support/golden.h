// Where the shared goldens and test data are. Absent ones are skipped by the tests that want them.
#pragma once

#include <optional>
#include <string>

namespace pixii::testing {

/// The source tree.
std::string SourceDir();
/// PIXII_GOLDEN_DIR, by default ../shared/golden beside the source tree; nothing if it does not
/// exist.
std::optional<std::string> GoldenDir();
/// PIXII_DATA_DIR, by default ../shared/data.
std::optional<std::string> DataDir();
/// tests/golden of the source tree: what the project carries itself.
std::string OwnGoldenDir();
/// Whole content of a file; fails the running test if it cannot be read.
std::string ReadFileOrFail(const std::string& path);

}  // namespace pixii::testing
