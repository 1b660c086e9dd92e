// The JSON Schema Test Suite and a part of MaskBench: a schema is refused by name, or every
// instance is judged as the data says, written compactly and with white space.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "support/golden.h"
#include "unit/text/grammar/grammar_cases.h"
#include "wire/json.h"

namespace pixii::text::grammar {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> JsonFiles(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".json") {
      out.push_back(entry.path().string());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string Spaced(const wire::Json& value) {
  std::string out;
  bool in_string = false;
  bool escaped = false;
  for (char c : value.Dump()) {
    out += c;
    if (in_string) {
      in_string = escaped || c != '"';
      escaped = !escaped && c == '\\';
    } else if (c == '"') {
      in_string = true;
      escaped = false;
    } else if (c == ',' || c == ':' || c == '[' || c == '{') {
      out += "\n \t";
    }
  }
  return out + " ";
}

struct Counts {
  int right = 0;
  int wrong = 0;
  int refused = 0;
};

// Files whose instances are judged otherwise on purpose: docs/structured_output.md.
bool IsElsewhere(const std::string& path) {
  // format is asserted here, and content keywords are annotations, as later drafts have them.
  return path.ends_with("2020-12/format.json") || path.ends_with("draft7/optional/content.json");
}

Counts RunSuite(const std::string& folder, const char* dialect) {
  Counts counts;
  for (const std::string& path : JsonFiles(folder)) {
    if (IsElsewhere(path)) {
      continue;
    }
    wire::Json groups = *wire::ParseJson(testing::ReadFileOrFail(path));
    for (const wire::Json& group : groups.array()) {
      wire::Json schema = *group.Find("schema");
      if (schema.is_object() && schema.Find("$schema") == nullptr) {
        schema.Set("$schema", dialect);
      }
      Judge judge(SchemaSpec(schema.Dump()));
      bool empty = judge.error().find("no JSON value satisfies") != std::string::npos;
      for (const wire::Json& test : group.Find("tests")->array()) {
        if (!judge.compiled() && !empty) {
          ++counts.refused;
          continue;
        }
        const wire::Json& data = *test.Find("data");
        bool valid = test.Find("valid")->boolean();
        bool compact = judge.compiled() && judge.Takes(data.Dump());
        bool spaced = judge.compiled() && judge.Takes(Spaced(data));
        bool right = compact == valid && spaced == valid;
        ++(right ? counts.right : counts.wrong);
        EXPECT_TRUE(right) << path << ": " << group.Find("description")->string() << ": "
                           << test.Find("description")->string() << ": " << data.Dump()
                           << " valid: " << valid << " by " << schema.Dump();
      }
    }
  }
  return counts;
}

TEST(SchemaSuite, Draft2020IsJudgedRightOrRefused) {
  std::optional<std::string> data = testing::DataDir();
  if (!data) {
    GTEST_SKIP() << "no test data";
  }
  Counts counts = RunSuite(*data + "/json-schema-suite/tests/draft2020-12",
                           "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(counts.wrong, 0);
  EXPECT_GE(counts.right, 1820);
  EXPECT_LE(counts.refused, 285);
}

TEST(SchemaSuite, Draft7IsJudgedRightOrRefused) {
  std::optional<std::string> data = testing::DataDir();
  if (!data) {
    GTEST_SKIP() << "no test data";
  }
  Counts counts = RunSuite(*data + "/json-schema-suite/tests/draft7",
                           "http://json-schema.org/draft-07/schema#");
  EXPECT_EQ(counts.wrong, 0);
  EXPECT_GE(counts.right, 1480);
  EXPECT_LE(counts.refused, 225);
}

TEST(SchemaSuite, MaskBenchIsJudgedRightAndMostlyAccepted) {
  std::optional<std::string> data = testing::DataDir();
  if (!data) {
    GTEST_SKIP() << "no test data";
  }
  int schemas = 0;
  int accepted = 0;
  std::vector<std::string> files = JsonFiles(*data + "/maskbench");
  for (std::size_t i = 0; i < files.size(); i += 16) {
    wire::Json file = *wire::ParseJson(testing::ReadFileOrFail(files[i]));
    Judge judge(SchemaSpec(file.Find("schema")->Dump()));
    ++schemas;
    accepted += judge.compiled() ? 1 : 0;
    for (const wire::Json& test : file.Find("tests")->array()) {
      if (judge.compiled()) {
        const wire::Json& instance = *test.Find("data");
        EXPECT_EQ(judge.Takes(instance.Dump()), test.Find("valid")->boolean()) << files[i];
        EXPECT_EQ(judge.Takes(Spaced(instance)), test.Find("valid")->boolean()) << files[i];
      }
    }
  }
  EXPECT_GE(accepted * 100, schemas * 97);
}

}  // namespace
}  // namespace pixii::text::grammar
