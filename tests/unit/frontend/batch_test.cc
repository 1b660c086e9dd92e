#include "frontend/batch.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

using wire::Json;

TEST(Batch, SurvivesItsOwnRecord) {
  Batch batch;
  batch.id = "batch_1";
  batch.tenant = "t";
  batch.owner = "o";
  batch.endpoint = "/v1/completions";
  batch.input_file_id = "file-1";
  batch.completion_window = "24h";
  batch.metadata = *wire::ParseJson(R"({"a":"b"})");
  batch.output_lifetime_seconds = 3600;
  batch.status = BatchStatus::kCompleted;
  batch.reached = {{BatchStatus::kInProgress, 5}, {BatchStatus::kCompleted, 9}};
  batch.created_at = 4;
  batch.expires_at = 100;
  batch.total = 3;
  batch.completed = 2;
  batch.failed = 1;
  batch.errors = {{.code = "c", .message = "m", .param = "p", .line = 7}};
  batch.output_file_id = "file-2";
  batch.error_file_id = "file-3";
  batch.has_output = true;
  auto read = Batch::FromRecord(batch.Record());
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->Record(), batch.Record());
  EXPECT_EQ(read->tenant, "t");
  EXPECT_EQ(read->reached, batch.reached);
  EXPECT_FALSE(read->has_errors);
  EXPECT_FALSE(Batch::FromRecord("{}"));
  EXPECT_FALSE(Batch::FromRecord("torn"));
  const std::string body = batch.Body();
  EXPECT_EQ(body.find("tenant"), std::string::npos) << "nobody's business";
  EXPECT_NE(body.find(R"("output_file_id":"file-2")"), std::string::npos);
  EXPECT_EQ(body.find("file-3"), std::string::npos) << "there is none yet";
}

TEST(Batch, ReadsWhatAClientAsksFor) {
  const auto read = [](std::string_view window, std::string_view more = {}) {
    return ReadBatchRequest(
        *wire::ParseJson(R"({"input_file_id":"f","endpoint":"/v1/responses","completion_window":)" +
                         std::string(window) + std::string(more) + "}"));
  };
  auto day = read(R"("24h")", R"(,"metadata":{"k":"v"},"output_expires_after":)"
                              R"({"anchor":"created_at","seconds":3600})");
  ASSERT_TRUE(day) << day.error().ToString();
  EXPECT_EQ(day->window_seconds, 86'400);
  EXPECT_EQ(day->output_lifetime_seconds, 3600);
  EXPECT_EQ(read(R"("90s")")->window_seconds, 90);
  for (std::string_view bad :
       {R"("h")", R"("0h")", R"("8d")", R"("24")", R"("1.5h")", "24", R"("99999999999h")"}) {
    EXPECT_EQ(read(bad).error().param(), "completion_window") << bad;
  }
  EXPECT_EQ(read(R"("1h")", R"(,"foo":1)").error().param(), "foo");
  EXPECT_EQ(read(R"("1h")", R"(,"metadata":{"k":1})").error().param(), "metadata");
  EXPECT_EQ(
      read(R"("1h")", R"(,"output_expires_after":{"anchor":"x","seconds":3600})").error().param(),
      "output_expires_after");
  EXPECT_EQ(ReadBatchRequest(*wire::ParseJson(R"({"input_file_id":"f","endpoint":"/v1/files"})"))
                .error()
                .param(),
            "endpoint");
  EXPECT_EQ(ReadBatchRequest(*wire::ParseJson("{}")).error().param(), "input_file_id");
}

}  // namespace
}  // namespace pixii::frontend
