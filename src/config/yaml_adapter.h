// A flat YAML mapping as text: keys, scalar values, lines. Only yaml_adapter.cc sees yaml-cpp and
// its exceptions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pixii::config {

struct YamlEntry {
  std::string key;
  std::string value;
  std::uint32_t line = 0;  // from 1
};

/// The entries of the mapping under `section`, and of the top level but for other mappings, in file
/// order. Errors: kInvalidArgument with the line: syntax, duplicate keys, values that are no
/// scalars, sections that are neither `section` nor in `other_sections` (if that is not empty);
/// kTooLarge.
Result<std::vector<YamlEntry>> ReadYaml(const std::string& text, const std::string& file,
                                        const std::string& section,
                                        const std::vector<std::string>& other_sections = {});

enum class YamlKind : std::uint8_t { kScalar, kNull, kList, kMap };

/// What stands at the end of a path of keys: a value, null, a list, or a mapping without entries.
struct YamlLeaf {
  std::string path;  // keys joined by dots
  YamlKind kind = YamlKind::kScalar;
  std::string value = {};               // of a scalar
  std::vector<std::string> items = {};  // of a list of scalars; of others as "[]" or "{}"
  bool quoted = false;
  std::uint32_t line = 0;  // from 1
};

/// Of its path; at least one.
std::vector<std::string> KeysOf(const YamlLeaf& leaf);

/// What becomes of a list of mappings.
enum class YamlLists : std::uint8_t {
  kWhole,    // one leaf, whose items are "{}"
  kEntries,  // its mappings' own leaves, the number of each in their path: list.0.key
};

/// The leaves of a YAML document that is a mapping (or JSON, which is YAML too), in order; empty
/// lists count as null. Errors: kInvalidArgument with the line: syntax, keys that stand twice, are
/// no words or have dots in them, mappings nested too deep; kTooLarge.
Result<std::vector<YamlLeaf>> ReadYamlTree(const std::string& text, const std::string& file,
                                           YamlLists lists = YamlLists::kWhole);

struct YamlMember;

/// A node of a document as it stands; keys may be any text.
struct YamlNode {
  YamlKind kind = YamlKind::kNull;
  std::string value = {};           // of a scalar
  std::vector<YamlNode> items;      // of a list
  std::vector<YamlMember> members;  // of a mapping, in file order
  std::uint32_t line = 0;           // from 1: of its key, or of itself in a list

  /// A mapping's member; null: there is none.
  const YamlNode* Find(std::string_view key) const;
};

struct YamlMember {
  std::string key;
  YamlNode node;
};

/// The documents of a file, one behind each "---". Errors: kInvalidArgument with the line: syntax,
/// keys that stand twice or are no scalars, too deep; kTooLarge.
Result<std::vector<YamlNode>> ReadYamlDocuments(const std::string& text, const std::string& file);

/// A scalar in double quotes (YAML 1.2, section 7.3.1).
std::string YamlQuoted(std::string_view text);

/// What is wrong in a file, with its line and key: "file:line: key: what", kInvalidArgument.
class YamlErrors {
 public:
  explicit YamlErrors(std::string file) : file_(std::move(file)) {}

  const std::string& file() const { return file_; }

  tl::unexpected<Error> Wrong(std::uint32_t line, std::string_view key,
                              std::string_view what) const;

  /// `key` is the end of the leaf's path; names the nearest of those that are `known`.
  tl::unexpected<Error> Unknown(const YamlLeaf& leaf, std::string_view key,
                                const std::vector<std::string>& known) const;

 private:
  std::string file_;
};

}  // namespace pixii::config
