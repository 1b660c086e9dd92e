// A flat YAML mapping as text: keys, scalar values, lines. Only yaml_adapter.cc sees yaml-cpp and
// its exceptions.
#pragma once

#include <cstdint>
#include <string>
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

}  // namespace pixii::config
