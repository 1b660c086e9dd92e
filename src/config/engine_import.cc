#include "config/engine_import.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "config/engine_args.h"
#include "config/yaml_adapter.h"

namespace pixii::config {

namespace {

// Whether it is the same without quotes in a list.
bool IsPlain(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '.';
  });
}

std::string ValueOf(const YamlLeaf& leaf) {
  switch (leaf.kind) {
    case YamlKind::kScalar:
      return leaf.quoted ? YamlQuoted(leaf.value) : leaf.value;
    case YamlKind::kList: {
      std::string out;
      for (const std::string& item : leaf.items) {
        const bool whole = IsPlain(item) || item == "{}" || item == "[]";
        out += (out.empty() ? "" : ", ") + (whole ? item : YamlQuoted(item));
      }
      return "[" + out + "]";
    }
    case YamlKind::kMap:
      return "{}";
    case YamlKind::kNull:
      break;
  }
  return "null";
}

// Writes leaves below the groups that they are in.
class YamlWriter final {
 public:
  void Add(const YamlLeaf& leaf) {
    const std::vector<std::string> keys = KeysOf(leaf);
    const std::size_t common =
        static_cast<std::size_t>(std::ranges::mismatch(keys, groups_).in1 - keys.begin());
    groups_.resize(std::min(common, groups_.size()));
    for (std::size_t depth = groups_.size(); depth < keys.size(); ++depth) {
      const bool last = depth + 1 == keys.size();
      text_ +=
          fmt::format("{:{}}{}:{}\n", "", 2 * depth, keys[depth], last ? " " + ValueOf(leaf) : "");
      if (!last) {
        groups_.push_back(keys[depth]);
      }
    }
  }

  std::string Take() && { return std::move(text_); }

 private:
  std::vector<std::string> groups_;
  std::string text_;
};

// The leaf, in the line where it stands in its file, and before it another one that it needs.
EngineArgsFile Alone(const YamlLeaf& leaf, const YamlLeaf* needed, const std::string& path) {
  YamlWriter writer;
  if (needed != nullptr) {
    writer.Add(*needed);
  }
  writer.Add(leaf);
  std::string text = std::move(writer).Take();
  const auto lines = static_cast<std::size_t>(std::ranges::count(text, '\n'));
  const std::size_t above = leaf.line > lines ? leaf.line - lines : 0;
  return {.text = std::string(above, '\n') + std::move(text), .path = path};
}

// Keys of speculative_config mean nothing without its kind.
const YamlLeaf* NeededBy(const YamlLeaf& leaf, const std::vector<YamlLeaf>& leaves) {
  constexpr std::string_view kKind = "speculative_config.decoding_type";
  const auto kind = std::ranges::find(leaves, kKind, &YamlLeaf::path);
  const bool needs = leaf.path.starts_with("speculative_config.") && leaf.path != kKind;
  return needs && kind != leaves.end() ? &*kind : nullptr;
}

std::string OptionName(std::string key) {
  std::ranges::replace(key, '_', '-');
  return key;
}

ImportedKey Judge(const YamlLeaf& leaf, const std::vector<YamlLeaf>& leaves,
                  const std::string& path) {
  ImportedKey out{.outcome = Imported::kNoEffect, .key = leaf.path, .line = leaf.line, .said = {}};
  const Result<EngineSettings> read =
      ReadEngineArgs({.file = Alone(leaf, NeededBy(leaf, leaves), path), .json = {}, .dotted = {}});
  if (!read) {
    out.outcome = Imported::kRefused;
    out.said = read.error().detail();
    return out;
  }
  for (const EngineSetting& setting : read->settings) {
    if (setting.key != leaf.path) {
      continue;
    }
    const bool same = OptionName(leaf.path) == setting.option || setting.option == "MODEL";
    out.outcome = same ? Imported::kTaken : Imported::kRenamed;
    out.said = fmt::format("{}{} {}", setting.option == "MODEL" ? "" : "--", setting.option,
                           setting.value);
  }
  return out;
}

}  // namespace

ImportedKey RefusedKey(std::string_view file, std::string key, std::uint32_t line,
                       std::string_view why) {
  std::string said = fmt::format("{}:{}: {}: {}", file, line, key, why);
  return {
      .outcome = Imported::kRefused, .key = std::move(key), .line = line, .said = std::move(said)};
}

std::string_view ImportedName(Imported outcome) {
  switch (outcome) {
    case Imported::kTaken:
      return "taken over";
    case Imported::kRenamed:
      return "renamed";
    case Imported::kNoEffect:
      return "without effect";
    case Imported::kRefused:
      break;
  }
  return "refused";
}

Result<ImportedEngineArgs> ImportEngineArgs(const std::string& text, const std::string& path) {
  PX_TRY(const std::vector<YamlLeaf> leaves, ReadYamlTree(text, path));
  ImportedEngineArgs out;
  YamlWriter writer;
  for (const YamlLeaf& leaf : leaves) {
    ImportedKey key = Judge(leaf, leaves, path);
    if (key.outcome != Imported::kRefused) {
      writer.Add(leaf);
    }
    out.keys.push_back(std::move(key));
  }
  out.text = std::move(writer).Take();
  return out;
}

}  // namespace pixii::config
