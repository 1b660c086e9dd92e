#include "frontend/batch_journal.h"

#include <gtest/gtest.h>

#include "wire/json.h"

namespace pixii::frontend {
namespace {

TEST(BatchJournal, WritesOneLineAnAnswer) {
  EXPECT_EQ(BatchAnswerLine("r", "c\"", {.body = R"({"a":1})", .fields = {}}),
            R"({"id":"r","custom_id":"c\"","response":{"status_code":200,"request_id":"r",)"
            R"("body":{"a":1}},"error":null})"
            "\n");
  const std::string odd = BatchAnswerLine("r", "c", {.body = "two\nlines", .fields = {}});
  EXPECT_EQ(odd.find('\n'), odd.size() - 1);
  EXPECT_TRUE(wire::ParseJson(odd.substr(0, odd.size() - 1)));
  EXPECT_EQ(BatchProblemLine("r", "c", "code", "why"),
            R"({"id":"r","custom_id":"c","response":null,"error":{"code":"code","message":"why"}})"
            "\n");
}

TEST(BatchJournal, StopsAtWhatACrashLeft) {
  const std::string first = BatchProblemLine("1", "a", "x", "y");
  const std::string second = BatchProblemLine("2", "b", "x", "y");
  for (std::size_t cut = 0; cut < second.size(); ++cut) {
    BatchJournal read = ReadBatchJournal(first + second.substr(0, cut));
    EXPECT_EQ(read.whole_bytes, first.size()) << cut;
    EXPECT_EQ(read.ids.size(), 1U);
  }
  EXPECT_EQ(ReadBatchJournal(first + second).ids.size(), 2U);
  EXPECT_EQ(ReadBatchJournal(first + "{}\n" + second).ids.size(), 1U);
}

}  // namespace
}  // namespace pixii::frontend
