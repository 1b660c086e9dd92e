#include "frontend/batch_input.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

constexpr std::string_view kChat = "/v1/chat/completions";

std::string Line(std::string_view id, std::string_view more = R"("body":{"x":1})",
                 std::string_view url = kChat) {
  return R"({"custom_id":")" + std::string(id) + R"(","method":"POST","url":")" + std::string(url) +
         R"(",)" + std::string(more) + "}\n";
}

TEST(BatchInput, TakesEveryLineWithItsBody) {
  std::string file = Line("a") + "\r\n" + Line("b", R"("body":{"y":[1.50]})");
  file.pop_back();
  BatchInput input = ReadBatchInput(file, kChat);
  ASSERT_TRUE(input.errors.empty()) << input.errors[0].message;
  ASSERT_EQ(input.lines.size(), 2U);
  EXPECT_EQ(input.lines[1].custom_id, "b");
  EXPECT_EQ(BatchLineBody(input.lines[0]), R"({"x":1})");
  EXPECT_EQ(BatchLineBody(input.lines[1]), R"({"y":[1.50]})");
}

TEST(BatchInput, NamesEveryLineThatCannotRun) {
  const std::string file =
      Line("good") + "{\n[]\n" + Line("good") + Line("e", R"("body":{})", "/v1/embeddings") +
      Line("b", R"("body":7)") + Line("s", R"("body":{"stream":true})") +
      R"({"custom_id":"m","method":"GET","url":"/v1/chat/completions"})" + "\n" +
      R"({"custom_id":7})" + "\n" + Line("u", R"("body":{},"foo":1)") + Line("");
  BatchInput input = ReadBatchInput(file, kChat);
  std::vector<std::string> found;
  for (const BatchError& error : input.errors) {
    found.push_back(std::to_string(error.line) + " " + error.code + " " + error.param);
    EXPECT_NE(error.message.find("line " + std::to_string(error.line)), std::string::npos);
  }
  EXPECT_EQ(found,
            (std::vector<std::string>{"2 invalid_json_line ", "3 invalid_json_line ",
                                      "4 duplicate_custom_id custom_id", "5 mismatched_url url",
                                      "6 invalid_body body", "7 invalid_body body.stream",
                                      "8 invalid_method method", "9 invalid_custom_id custom_id",
                                      "10 unknown_field foo", "11 invalid_custom_id custom_id"}));
}

TEST(BatchInput, CountsWhatIsPastItsBounds) {
  EXPECT_EQ(ReadBatchInput("\n \n", kChat).errors.at(0).code, "empty_file");
  std::string bad;
  for (std::uint32_t i = 0; i < kBatchErrorsMax + 5; ++i) {
    bad += "x\n";
  }
  BatchInput input = ReadBatchInput(bad, kChat);
  EXPECT_EQ(input.errors.size(), kBatchErrorsMax + 1);
  EXPECT_EQ(input.errors.back().message, "and 5 more lines with errors");
  std::string many;
  for (std::uint32_t i = 0; i <= kBatchLinesMax; ++i) {
    many += Line(std::to_string(i));
  }
  EXPECT_EQ(ReadBatchInput(many, kChat).errors.at(0).code, "too_many_lines");
}

TEST(BatchInput, KnowsTheRoutesOfBatches) {
  EXPECT_TRUE(IsBatchEndpoint("/v1/embeddings"));
  EXPECT_TRUE(IsBatchEndpoint("/v1/responses"));
  EXPECT_FALSE(IsBatchEndpoint("/v1/files"));
}

}  // namespace
}  // namespace pixii::frontend
