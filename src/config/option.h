// One option as a row of a table: from it come the flag, the variable, the YAML key, the checks,
// the help and the reference page. A folder's x_options.def holds the rows; the struct they fill
// knows nothing of this.
//
// Thread: values; used once at start.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"

namespace pixii::config {

enum class Visibility : std::uint8_t { kUser, kTunable, kExperimental };

/// Bounds of integers, sizes (bytes) and durations (nanoseconds), both inclusive.
struct IntegerRange {
  std::int64_t min = 0;
  std::int64_t max = 0;
};

struct RealRange {
  double min = 0;
  double max = 0;
};

/// One of a closed set of words.
struct Words {
  std::vector<std::string> allowed;
};

struct Text {
  std::size_t size_max = 4096;  // bytes
};

/// What a row may hold: target field and its rule.
struct BoolField {
  bool* target;
};

struct IntegerField {
  std::int64_t* target;
  IntegerRange range;
};

/// Bytes, written as 512MiB, 2GB or a plain number.
struct SizeField {
  std::int64_t* target;
  IntegerRange range;
};

/// Nanoseconds, written as 30s, 500ms, 5m or 2h; a plain number is seconds.
struct DurationField {
  std::int64_t* target;
  IntegerRange range;
};

struct RealField {
  double* target;
  RealRange range;
};

struct TextField {
  std::string* target;
  Text rule;
};

struct WordField {
  std::string* target;
  Words rule;
};

/// Texts; each use of the flag adds one. In a variable or file: one a line.
struct ListField {
  std::vector<std::string>* target;
  Text rule;
};

using Field = std::variant<BoolField, IntegerField, SizeField, DurationField, RealField, TextField,
                           WordField, ListField>;

struct Option {
  std::string name;  // "max-batch": the flag is --max-batch, the YAML key max-batch or max_batch
  Field field;       // its target holds the default when the table is made
  std::string unit;  // "tokens"; empty if the kind says it
  Visibility visibility = Visibility::kUser;
  std::string help;                              // one sentence
  std::vector<std::string> environment_aliases;  // beside PIXII_COMMAND_MAX_BATCH
  std::vector<std::string> flag_aliases;         // "http-port"
  std::vector<std::string> old_names = {};  // flags that still hold, and say once that they are old
};

/// Reads `text` into the option's target. Errors: kInvalidArgument with value and what is allowed;
/// param = the name.
Result<void> Assign(const Option& option, const std::string& text);

/// The target's value as a user would write it.
std::string ValueText(const Option& option);

/// "1 .. 4096 sequences", "auto, fp32 or bf16", "true or false".
std::string AllowedText(const Option& option);

}  // namespace pixii::config
