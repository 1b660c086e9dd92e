// Any bytes as a --config file: either a flat list of entries or an error that names the file.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "config/yaml_adapter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto entries = pixii::config::ReadYaml(text, "fuzz.yaml", "serve", {"chat"});
  if (!entries) {
    PX_ASSERT(entries.error().detail().starts_with("fuzz.yaml"));
    return 0;
  }
  for (const pixii::config::YamlEntry& entry : *entries) {
    PX_ASSERT(entry.line >= 1);
  }
  return 0;
}
