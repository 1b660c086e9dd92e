// /v1/files and /v1/batches through a whole frontend.
#include "frontend/batch_runner.h"

#include <map>
#include <set>

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;
using namespace std::chrono_literals;

class BatchTest : public FrontendTest {
 protected:
  Reply Upload(std::string_view content, std::string_view purpose = "batch",
               std::string_view fields = {}, std::string_view name = "dir/in.jsonl") {
    const std::string body =
        "--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" + std::string(purpose) +
        "\r\n--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" +
        std::string(name) +
        "\"\r\n"
        "Content-Type: application/jsonl\r\n\r\n" +
        std::string(content) + "\r\n--B--\r\n";
    return One("POST /v1/files HTTP/1.1\r\nHost: server\r\n" + std::string(fields) +
               "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n\r\n" + body);
  }

  static std::string Line(std::string_view id, std::string_view body,
                          std::string_view url = "/v1/completions") {
    return R"({"custom_id":")" + std::string(id) + R"(","method":"POST","url":")" +
           std::string(url) + R"(","body":)" + std::string(body) + "}\n";
  }

  static std::string Lines(int count) {
    std::string out;
    for (int i = 0; i < count; ++i) {
      out += Line("r" + std::to_string(i), R"({"prompt":"p)" + std::to_string(i) + "\"}");
    }
    return out;
  }

  std::string CreateBatch(std::string_view file, std::string_view window = "24h",
                          std::string_view endpoint = "/v1/completions") {
    Reply reply =
        Post("/v1/batches", R"({"input_file_id":")" + std::string(file) + R"(","endpoint":")" +
                                std::string(endpoint) + R"(","completion_window":")" +
                                std::string(window) + R"(","metadata":{"k":"v"}})");
    EXPECT_EQ(reply.status, 200) << reply.body;
    return Id(reply.json());
  }

  static std::string Id(const Json& object) {
    const Json* id = object.Find("id");
    return id != nullptr && id->is_string() ? id->string() : "";
  }

  Json BatchOf(const std::string& id) { return Get("/v1/batches/" + id).json(); }

  Json Ended(const std::string& id) {
    for (int i = 0; i < 1000; ++i) {
      Json batch = BatchOf(id);
      const std::string& status = batch.Find("status")->string();
      if (status == "completed" || status == "failed" || status == "expired" ||
          status == "cancelled") {
        return batch;
      }
      world.RunTo(world.now() + 200ms);
    }
    ADD_FAILURE() << "the batch does not end: " << BatchOf(id).Dump();
    return {};
  }

  /// custom id -> line, of a file that a batch names in `field`; none: empty.
  std::map<std::string, Json> Results(const Json& batch, std::string_view field) {
    std::map<std::string, Json> out;
    const Json* file = batch.Find(field);
    if (file == nullptr) {
      return out;
    }
    Reply reply = Get("/v1/files/" + file->string() + "/content");
    EXPECT_EQ(reply.status, 200);
    std::string_view rest = reply.body;
    while (!rest.empty()) {
      const std::size_t end = rest.find('\n');
      Json line = *wire::ParseJson(rest.substr(0, end));
      const std::string id = line.Find("custom_id")->string();
      EXPECT_TRUE(out.emplace(id, std::move(line)).second) << id << " stands there twice";
      rest.remove_prefix(end + 1);
    }
    return out;
  }
};

TEST_F(BatchTest, StoresAFileUntilItIsDeleted) {
  Start();
  Reply reply = Upload("{}\n");
  ASSERT_EQ(reply.status, 200) << reply.body;
  Json file = reply.json();
  const std::string path = "/v1/files/" + Id(file);
  EXPECT_EQ(file.Find("filename")->string(), "in.jsonl");
  EXPECT_EQ(file.Find("bytes")->AsInt(), 3);
  EXPECT_EQ(Get(path).body, reply.body);
  Reply content = Get(path + "/content");
  EXPECT_EQ(content.body, "{}\n");
  EXPECT_EQ(content.Field("content-type"), "application/octet-stream");
  EXPECT_EQ(Get("/v1/files").json().Find("data")->array().size(), 1U);
  EXPECT_EQ(Get("/v1/files?purpose=batch_output").json().Find("data")->array().size(), 0U);
  EXPECT_EQ(One(Raw("DELETE", path)).body,
            R"({"id":")" + Id(file) + R"(","object":"file","deleted":true})");
  EXPECT_EQ(Get(path).status, 404);
  EXPECT_EQ(Get(path + "/content").status, 404);
  EXPECT_EQ(One(Raw("DELETE", path)).status, 404);
}

TEST_F(BatchTest, RefusesUploadsByName) {
  options.files.bytes_max = 100;
  Start();
  EXPECT_EQ(Upload("{}", "fine-tune").param(), "purpose");
  EXPECT_EQ(Upload("").param(), "file");
  EXPECT_EQ(
      Upload("{}", "batch\r\n--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch")
          .param(),
      "purpose");
  EXPECT_EQ(Upload("{}", std::string(600, 'b')).param(), "purpose");
  const std::string name(254, 'n');
  EXPECT_EQ(Upload("{}", "batch", "", "folder/" + name + "n").json().Find("filename")->string(),
            name + "n");
  EXPECT_EQ(Upload("{}", "batch", "", name + "\u00e9").param(), "file");
  EXPECT_EQ(Upload(std::string(101, 'x')).status, 413);
  EXPECT_EQ(Post("/v1/files", "{}").status, 415);
  Reply foreign = Upload("{}", "batch", "Origin: https://elsewhere.example\r\n");
  EXPECT_EQ(foreign.status, 403) << "a page of another site";
  EXPECT_EQ(Upload("{}", "batch", "Origin: http://server\r\n").status, 200);
}

TEST_F(BatchTest, AnswersEveryLineOnceBehindEverybodyElse) {
  options.batches.lines_running_max = 3;
  Start();
  const std::string input = Lines(7) + Line("bad", R"({"prompt":"x","temperature":9})") +
                            Line("who", R"({"prompt":"x","model":"nobody"})");
  const std::string id = CreateBatch(Id(Upload(input).json()));
  Json batch = Ended(id);
  EXPECT_EQ(batch.Find("status")->string(), "completed") << batch.Dump();
  EXPECT_EQ(batch.Find("request_counts")->Dump(), R"({"total":9,"completed":7,"failed":2})");
  EXPECT_EQ(batch.Find("metadata")->Dump(), R"({"k":"v"})");
  for (std::string_view time : {"in_progress_at", "finalizing_at", "completed_at", "expires_at"}) {
    EXPECT_NE(batch.Find(time), nullptr) << time;
  }
  auto answers = Results(batch, "output_file_id");
  EXPECT_EQ(answers.size(), 7U);
  const Json& response = *answers.at("r3").Find("response");
  EXPECT_EQ(response.Find("status_code")->AsInt(), 200);
  EXPECT_EQ(testing::Choice(*response.Find("body")).Find("text")->string(), "Hello!");
  auto problems = Results(batch, "error_file_id");
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems.at("bad").Find("response")->Find("status_code")->AsInt(), 400);
  EXPECT_EQ(problems.at("who").Find("response")->Find("status_code")->AsInt(), 404);
  ASSERT_EQ(worker.seen.size(), 7U);
  std::set<std::vector<TokenId>> prompts;
  for (const wire::GenerateRequest& request : worker.seen) {
    EXPECT_EQ(request.priority, -8);
    EXPECT_TRUE(prompts.insert(request.prompt).second);
  }
  EXPECT_EQ(Get("/v1/batches").json().Find("data")->array().size(), 1U);
  Post("/v1/completions", R"({"prompt":"x","priority":2})");
  EXPECT_EQ(worker.seen.back().priority, -2) << "those who wait keep theirs";
  ExpectQuiet();
}

TEST_F(BatchTest, RunsAFewLinesAtATimeAndShowsHowFarItIs) {
  options.batches.lines_running_max = 2;
  options.batches.batches_running_max = 1;
  worker.automatic = false;
  Start();
  const std::string file = Id(Upload(Lines(4)).json());
  const std::string first = CreateBatch(file);
  const std::string second = CreateBatch(file);
  ASSERT_TRUE(Until([&] { return worker.seen.size() == 2; }));
  EXPECT_EQ(BatchOf(second).Find("status")->string(), "validating") << "it waits";
  worker.End(worker.seen[0].id, 0, wire::FinishReason::kStop);
  ASSERT_TRUE(Until([&] { return worker.seen.size() == 3; }));
  EXPECT_EQ(worker.open.size(), 2U);
  Json batch = BatchOf(first);
  EXPECT_EQ(batch.Find("status")->string(), "in_progress");
  EXPECT_EQ(batch.Find("request_counts")->Dump(), R"({"total":4,"completed":1,"failed":0})");
  for (std::size_t i = 1; i < 8; ++i) {
    ASSERT_TRUE(Until([&] { return worker.seen.size() > i; })) << i;
    worker.End(worker.seen[i].id, 0, wire::FinishReason::kStop);
  }
  EXPECT_EQ(Ended(first).Find("status")->string(), "completed");
  EXPECT_EQ(Ended(second).Find("status")->string(), "completed");
  EXPECT_EQ(worker.seen.size(), 8U);
}

TEST_F(BatchTest, EndsAtOnceWhenItIsCancelled) {
  options.batches.lines_running_max = 2;
  worker.automatic = false;
  Start();
  const std::string id = CreateBatch(Id(Upload(Lines(5)).json()));
  ASSERT_TRUE(Until([&] { return worker.seen.size() == 2; }));
  worker.End(worker.seen[0].id, 0, wire::FinishReason::kStop);
  ASSERT_TRUE(Until([&] { return worker.seen.size() == 3; }));
  Reply reply = Post("/v1/batches/" + id + "/cancel", "");
  EXPECT_EQ(reply.json().Find("status")->string(), "cancelling") << reply.body;
  Json batch = Ended(id);
  EXPECT_EQ(batch.Find("status")->string(), "cancelled");
  EXPECT_EQ(batch.Find("request_counts")->Dump(), R"({"total":5,"completed":1,"failed":4})");
  auto answers = Results(batch, "output_file_id");
  auto problems = Results(batch, "error_file_id");
  EXPECT_EQ(answers.size(), 1U);
  EXPECT_EQ(problems.size(), 4U);
  for (const auto& [custom_id, line] : problems) {
    EXPECT_EQ(line.Find("error")->Find("code")->string(), "batch_cancelled") << custom_id;
    EXPECT_FALSE(answers.contains(custom_id));
  }
  EXPECT_EQ(Post("/v1/batches/" + id + "/cancel", "").json().Find("status")->string(), "cancelled");
  ExpectQuiet();
}

TEST_F(BatchTest, ExpiresWithWhatItHas) {
  options.batches.lines_running_max = 1;
  options.canary_interval = 3600s;  // a readiness test would let the worker step
  worker.automatic = false;
  Start();
  const std::string id = CreateBatch(Id(Upload(Lines(3)).json()), "60s");
  ASSERT_TRUE(Until([&] { return worker.seen.size() == 1; }));
  worker.End(worker.seen[0].id, 0, wire::FinishReason::kStop);
  ASSERT_TRUE(Until([&] { return !worker.cancels.empty(); }));
  Json batch = Ended(id);
  EXPECT_EQ(batch.Find("status")->string(), "expired");
  EXPECT_EQ(Results(batch, "output_file_id").size(), 1U);
  auto problems = Results(batch, "error_file_id");
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems.begin()->second.Find("error")->Find("code")->string(), "batch_expired");
  ExpectQuiet();
}

TEST_F(BatchTest, TriesAgainWhatFoundNoRoom) {
  options.generations_max = 1;
  options.batches.lines_running_max = 4;
  Start();
  Json batch = Ended(CreateBatch(Id(Upload(Lines(9)).json())));
  EXPECT_EQ(batch.Find("request_counts")->Dump(), R"({"total":9,"completed":9,"failed":0})");
  EXPECT_EQ(Results(batch, "output_file_id").size(), 9U);
  EXPECT_EQ(worker.seen.size(), 9U);
}

TEST_F(BatchTest, FailsWithTheLinesThatCannotRun) {
  Start();
  const std::string id = CreateBatch(Id(Upload(Lines(2) + "{\n" + Lines(1)).json()));
  Json batch = Ended(id);
  EXPECT_EQ(batch.Find("status")->string(), "failed");
  const auto& errors = batch.Find("errors")->Find("data")->array();
  ASSERT_EQ(errors.size(), 2U);
  EXPECT_EQ(errors[0].Find("line")->AsInt(), 3);
  EXPECT_EQ(errors[1].Find("code")->string(), "duplicate_custom_id");
  EXPECT_EQ(batch.Find("output_file_id"), nullptr);
  EXPECT_TRUE(worker.seen.empty());
}

TEST_F(BatchTest, FailsWhenItsAnswersFindNoRoom) {
  const std::string input = Lines(3);
  options.files.bytes_max = input.size() + 300;
  options.batches.lines_running_max = 1;
  Start();
  Json batch = Ended(CreateBatch(Id(Upload(input).json())));
  EXPECT_EQ(batch.Find("status")->string(), "failed") << batch.Dump();
  EXPECT_EQ(batch.Find("errors")->Find("data")->array().at(0).Find("code")->string(),
            "file_store_full");
  ExpectQuiet();
}

TEST_F(BatchTest, RunsResponsesAndChats) {
  Start();
  const std::string chat =
      Line("c", R"({"messages":[{"role":"user","content":"hi"}]})", "/v1/chat/completions");
  Json chats = Ended(CreateBatch(Id(Upload(chat).json()), "1h", "/v1/chat/completions"));
  EXPECT_EQ(chats.Find("request_counts")->Find("completed")->AsInt(), 1);
  const std::string response = Line("r", R"({"input":"hi"})", "/v1/responses");
  Json responses = Ended(CreateBatch(Id(Upload(response).json()), "1h", "/v1/responses"));
  EXPECT_EQ(responses.Find("request_counts")->Find("completed")->AsInt(), 1);
}

TEST_F(BatchTest, BelongsToItsTenantAndItsKeysLimits) {
  keys = *ApiKeys::Parse(R"({"keys":[{"key":"first-key","tenant":"a","requests_per_minute":2},)"
                         R"({"key":"second-key","tenant":"b","models":["other"]}]})");
  Start();
  constexpr std::string_view kFirst = "Authorization: Bearer first-key\r\n";
  constexpr std::string_view kSecond = "Authorization: Bearer second-key\r\n";
  Json file = Upload(Lines(4), "batch", kFirst).json();
  const std::string body = R"({"input_file_id":")" + Id(file) +
                           R"(","endpoint":"/v1/completions","completion_window":"1h"})";
  EXPECT_EQ(Post("/v1/batches", body, kSecond).param(), "input_file_id") << "not its file";
  EXPECT_EQ(Get("/v1/files/" + Id(file), kSecond).status, 404);
  EXPECT_EQ(Get("/v1/files/" + Id(file)).status, 401);
  const std::string id = Id(Post("/v1/batches", body, kFirst).json());
  EXPECT_EQ(Get("/v1/batches/" + id, kSecond).status, 404);
  EXPECT_EQ(Post("/v1/batches/" + id + "/cancel", "", kSecond).status, 404);
  const rt::Time before = world.now();
  EXPECT_TRUE(Until([&] { return worker.seen.size() == 4; }));
  EXPECT_GE(world.now() - before, 50s) << "two a minute, past the first two";
  EXPECT_EQ(worker.seen[0].tenant, keys.all()[0].tenant);
}

TEST_F(BatchTest, DoesNotExistWhereItIsSwitchedOff) {
  options.disabled_endpoints = {"batches"};
  Start();
  EXPECT_EQ(Get("/v1/files").status, 404);
  EXPECT_EQ(Get("/v1/batches").status, 404);
}

}  // namespace
}  // namespace pixii::frontend
