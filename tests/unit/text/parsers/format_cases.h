// What each tool-call format writes for given calls, for the tests of all formats.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/parse_events.h"
#include "wire/json.h"

namespace pixii::text::parsers::testing {

struct WrittenCall {
  std::string name;
  std::string arguments;  // a JSON object
};

/// How a model of a format writes calls.
struct FormatWriter {
  std::string name;  // of the format
  std::function<std::string(const std::vector<WrittenCall>&)> write;
  std::vector<std::string> markers;  // none of them may reach the content
  bool strict = false;               // an unterminated block is dropped though its call is whole
  bool exact = true;  // arguments come byte for byte; false: only their JSON is equal
};

/// One for each format of the table.
std::vector<FormatWriter> AllWriters();

}  // namespace pixii::text::parsers::testing
