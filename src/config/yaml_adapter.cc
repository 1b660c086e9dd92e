#include "config/yaml_adapter.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>

namespace pixii::config {

namespace {

constexpr std::size_t kYamlSizeMax = 1 << 20;  // bytes

struct Reading {
  const std::string& file;
  const std::string& section;
  const std::vector<std::string>& other_sections;
};

Result<void> ReadMapping(const YAML::Node& node, const Reading& reading, bool top,
                         std::vector<YamlEntry>& out) {
  const std::string& file = reading.file;
  std::set<std::string> seen;
  for (const auto& item : node) {
    auto line = static_cast<std::uint32_t>(item.first.Mark().line + 1);
    if (!item.first.IsScalar()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}:{}: a key must be a plain word", file, line));
    }
    std::string key = item.first.Scalar();
    if (!seen.insert(key).second) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}:{}: {} stands here twice", file, line, key), key);
    }
    if (top && item.second.IsMap()) {
      const std::vector<std::string>& others = reading.other_sections;
      if (key == reading.section) {
        PX_CHECK_OK(ReadMapping(item.second, reading, false, out));
      } else if (!others.empty() && std::ranges::find(others, key) == others.end()) {
        return Fail(Code::kInvalidArgument,
                    fmt::format("{}:{}: {} is no section of this file; this command's is {}", file,
                                line, key, reading.section),
                    key);
      }
      continue;  // another command's section
    }
    if (!item.second.IsScalar()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}:{}: {} must have one plain value", file, line, key), key);
    }
    out.push_back({.key = std::move(key), .value = item.second.Scalar(), .line = line});
  }
  return {};
}

}  // namespace

Result<std::vector<YamlEntry>> ReadYaml(const std::string& text, const std::string& file,
                                        const std::string& section,
                                        const std::vector<std::string>& other_sections) {
  if (text.size() > kYamlSizeMax) {
    return Fail(Code::kTooLarge,
                fmt::format("{}: {} bytes, the limit is {}", file, text.size(), kYamlSizeMax));
  }
  try {
    YAML::Node root = YAML::Load(text);
    std::vector<YamlEntry> entries;
    if (root.IsNull()) {
      return entries;
    }
    if (!root.IsMap()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: the file must be a mapping of option to value", file));
    }
    PX_CHECK_OK(ReadMapping(root, {file, section, other_sections}, true, entries));
    return entries;
  } catch (const YAML::Exception& exception) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}:{}: {}", file, exception.mark.line + 1, exception.msg));
  }
}

}  // namespace pixii::config
