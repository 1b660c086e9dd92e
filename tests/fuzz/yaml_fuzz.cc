// Any bytes as a --config file and as an engine YAML: entries, settings or an error that names the
// file.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "config/engine_args.h"
#include "config/yaml_adapter.h"

namespace {

void ReadAsEngineArgs(const std::string& text) {
  pixii::config::EngineArgsInput input;
  input.file = pixii::config::EngineArgsFile{text, "fuzz.yaml"};
  const auto settings = pixii::config::ReadEngineArgs(input);
  if (!settings) {
    PX_ASSERT(settings.error().detail().starts_with("fuzz.yaml"));
    return;
  }
  for (const pixii::config::EngineSetting& setting : settings->settings) {
    PX_ASSERT(!setting.option.empty() && setting.where.starts_with("fuzz.yaml:"));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  ReadAsEngineArgs(text);
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
