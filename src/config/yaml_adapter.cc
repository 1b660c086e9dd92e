#include "config/yaml_adapter.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <optional>
#include <set>

#include "config/parse.h"

namespace pixii::config {

namespace {

constexpr std::size_t kYamlSizeMax = 1 << 20;  // bytes
constexpr std::size_t kTreeLeavesMax = 4096;   // aliases can make few bytes many leaves
constexpr std::uint32_t kTreeDepthMax = 8;     // mappings
constexpr std::size_t kKeySizeMax = 128;       // bytes
constexpr std::size_t kNodesMax = 65536;       // of a file's documents
constexpr std::uint32_t kNodeDepthMax = 32;    // mappings and lists

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

// One document as leaves.
class TreeReader final {
 public:
  TreeReader(const std::string& file, YamlLists lists) : file_(file), lists_(lists) {}

  Result<void> Read(const YAML::Node& node, const std::string& prefix, std::uint32_t depth) {
    std::set<std::string> seen;
    for (const auto& item : node) {
      const auto line = static_cast<std::uint32_t>(item.first.Mark().line + 1);
      const std::string key = item.first.IsScalar() ? item.first.Scalar() : "";
      if (key.empty() || key.size() > kKeySizeMax || key.find('.') != std::string::npos) {
        return Bad(line, prefix, "a key must be a word without dots");
      }
      const std::string path = prefix.empty() ? key : prefix + "." + key;
      if (!seen.insert(key).second) {
        return Bad(line, path, "stands here twice");
      }
      if (leaves_.size() >= kTreeLeavesMax) {
        return Fail(Code::kTooLarge, fmt::format("{}: more than {} keys", file_, kTreeLeavesMax));
      }
      if (item.second.IsMap() && item.second.size() > 0) {
        if (depth == kTreeDepthMax) {
          return Bad(line, path, "mappings are nested too deep");
        }
        PX_CHECK_OK(Read(item.second, path, depth + 1));
      } else if (lists_ == YamlLists::kEntries && IsListOfMaps(item.second)) {
        PX_CHECK_OK(ReadEntries(item.second, path, depth + 1));
      } else {
        leaves_.push_back(Leaf(item.second, path, line));
      }
    }
    return {};
  }

  std::vector<YamlLeaf> TakeLeaves() { return std::move(leaves_); }

 private:
  tl::unexpected<Error> Bad(std::uint32_t line, const std::string& path, const char* what) const {
    return Fail(Code::kInvalidArgument,
                path.empty() ? fmt::format("{}:{}: {}", file_, line, what)
                             : fmt::format("{}:{}: {}: {}", file_, line, path, what),
                path);
  }

  static bool IsListOfMaps(const YAML::Node& node) {
    return node.IsSequence() && node.size() > 0 &&
           std::all_of(node.begin(), node.end(),
                       [](const YAML::Node& item) { return item.IsMap(); });
  }

  Result<void> ReadEntries(const YAML::Node& list, const std::string& path, std::uint32_t depth) {
    std::size_t number = 0;
    for (const YAML::Node& item : list) {
      const std::string entry = fmt::format("{}.{}", path, number++);
      const auto line = static_cast<std::uint32_t>(item.Mark().line + 1);
      if (depth >= kTreeDepthMax) {
        return Bad(line, entry, "mappings are nested too deep");
      }
      if (item.size() == 0) {
        leaves_.push_back(Leaf(item, entry, line));
      }
      PX_CHECK_OK(Read(item, entry, depth + 1));
    }
    return {};
  }

  static YamlLeaf Leaf(const YAML::Node& node, const std::string& path, std::uint32_t line) {
    YamlLeaf leaf{.path = path, .line = line};
    if (node.IsScalar()) {
      leaf.value = node.Scalar();
      leaf.quoted = node.Tag() == "!";
    } else if (node.IsSequence() && node.size() > 0) {
      leaf.kind = YamlKind::kList;
      for (const auto& item : node) {
        leaf.items.push_back(item.IsScalar() ? item.Scalar() : item.IsMap() ? "{}" : "[]");
      }
    } else {
      leaf.kind = node.IsMap() ? YamlKind::kMap : YamlKind::kNull;
    }
    return leaf;
  }

  const std::string& file_;
  YamlLists lists_;
  std::vector<YamlLeaf> leaves_;
};

// Documents as they stand.
class DocumentReader final {
 public:
  explicit DocumentReader(const std::string& file) : file_(file) {}

  Result<YamlNode> Read(const YAML::Node& node, std::uint32_t line, std::uint32_t depth) {
    if (++nodes_ > kNodesMax || depth > kNodeDepthMax) {
      return Fail(Code::kTooLarge, fmt::format("{}:{}: more than {} values, or {} in one another",
                                               file_, line, kNodesMax, kNodeDepthMax));
    }
    YamlNode out;
    out.line = line;
    if (node.IsScalar()) {
      out.kind = YamlKind::kScalar;
      out.value = node.Scalar();
    } else if (node.IsSequence()) {
      out.kind = YamlKind::kList;
      for (const YAML::Node& item : node) {
        PX_TRY(YamlNode read, Read(item, LineOf(item), depth + 1));
        out.items.push_back(std::move(read));
      }
    } else if (node.IsMap()) {
      out.kind = YamlKind::kMap;
      PX_CHECK_OK(ReadMembers(node, depth, out));
    }
    return out;
  }

 private:
  static std::uint32_t LineOf(const YAML::Node& node) {
    return static_cast<std::uint32_t>(node.Mark().line + 1);
  }

  Result<void> ReadMembers(const YAML::Node& node, std::uint32_t depth, YamlNode& out) {
    std::set<std::string> seen;
    for (const auto& item : node) {
      const std::uint32_t line = LineOf(item.first);
      if (!item.first.IsScalar() || !seen.insert(item.first.Scalar()).second) {
        return Fail(Code::kInvalidArgument,
                    fmt::format("{}:{}: a key must be a word that stands once", file_, line));
      }
      PX_TRY(YamlNode read, Read(item.second, line, depth + 1));
      out.members.push_back({.key = item.first.Scalar(), .node = std::move(read)});
    }
    return {};
  }

  const std::string& file_;
  std::size_t nodes_ = 0;
};

}  // namespace

const YamlNode* YamlNode::Find(std::string_view key) const {
  const auto found = std::ranges::find(members, key, &YamlMember::key);
  return found != members.end() ? &found->node : nullptr;
}

Result<std::vector<YamlNode>> ReadYamlDocuments(const std::string& text, const std::string& file) {
  if (text.size() > kYamlSizeMax) {
    return Fail(Code::kTooLarge,
                fmt::format("{}: {} bytes, the limit is {}", file, text.size(), kYamlSizeMax));
  }
  try {
    std::vector<YamlNode> out;
    DocumentReader reader(file);
    for (const YAML::Node& root : YAML::LoadAll(text)) {
      PX_TRY(YamlNode read, reader.Read(root, static_cast<std::uint32_t>(root.Mark().line + 1), 0));
      out.push_back(std::move(read));
    }
    return out;
  } catch (const YAML::Exception& exception) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}:{}: {}", file, exception.mark.line + 1, exception.msg));
  }
}

std::string YamlQuoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
      continue;
    }
    out += c == '"' || c == '\\' ? "\\" : "";
    out += c;
  }
  return out + "\"";
}

Result<std::vector<YamlLeaf>> ReadYamlTree(const std::string& text, const std::string& file,
                                           YamlLists lists) {
  if (text.size() > kYamlSizeMax) {
    return Fail(Code::kTooLarge,
                fmt::format("{}: {} bytes, the limit is {}", file, text.size(), kYamlSizeMax));
  }
  try {
    const YAML::Node root = YAML::Load(text);
    TreeReader reader(file, lists);
    if (root.IsMap()) {
      PX_CHECK_OK(reader.Read(root, "", 1));
    } else if (!root.IsNull()) {
      return Fail(Code::kInvalidArgument, fmt::format("{}: must be a mapping of keys", file));
    }
    return reader.TakeLeaves();
  } catch (const YAML::Exception& exception) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}:{}: {}", file, exception.mark.line + 1, exception.msg));
  }
}

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

std::vector<std::string> KeysOf(const YamlLeaf& leaf) {
  std::vector<std::string> out;
  std::string_view path = leaf.path;
  while (true) {
    const std::size_t dot = path.find('.');
    out.emplace_back(path.substr(0, dot));
    if (dot == std::string_view::npos) {
      return out;
    }
    path.remove_prefix(dot + 1);
  }
}

tl::unexpected<Error> YamlErrors::Wrong(std::uint32_t line, std::string_view key,
                                        std::string_view what) const {
  return Fail(Code::kInvalidArgument, fmt::format("{}:{}: {}: {}", file_, line, key, what),
              std::string(key));
}

tl::unexpected<Error> YamlErrors::Unknown(const YamlLeaf& leaf, std::string_view key,
                                          const std::vector<std::string>& known) const {
  const std::optional<std::string> nearest = Nearest(key, known);
  return Wrong(leaf.line, leaf.path,
               fmt::format("there is no key \"{}\" here{}; known are {}", key,
                           nearest ? fmt::format("; did you mean \"{}\"?", *nearest) : "",
                           fmt::join(known, ", ")));
}

}  // namespace pixii::config
