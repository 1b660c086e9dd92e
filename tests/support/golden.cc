#include "support/golden.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace pixii::testing {

namespace {

std::optional<std::string> FromEnvironment(const char* variable, const char* fallback) {
  const char* value =
      std::getenv(variable);  // tests only: the product reads its environment in config/
  std::string path = value != nullptr ? value : SourceDir() + "/../shared/" + fallback;
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    return std::nullopt;
  }
  return path;
}

}  // namespace

std::string SourceDir() { return PIXII_SOURCE_DIR; }

std::optional<std::string> GoldenDir() { return FromEnvironment("PIXII_GOLDEN_DIR", "golden"); }

std::optional<std::string> DataDir() { return FromEnvironment("PIXII_DATA_DIR", "data"); }

std::string OwnGoldenDir() { return SourceDir() + "/tests/golden"; }

std::string ReadFileOrFail(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(in.good()) << "cannot read " << path;
  return std::move(text).str();
}

}  // namespace pixii::testing
