// Prompts that are long enough are tokenized beside the I/O loop.
#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>

#include "frontend/frontend.h"
#include "unit/frontend/fake_text.h"
#include "unit/frontend/fake_worker.h"

namespace pixii::frontend {
namespace {

using namespace std::chrono_literals;

class LongPromptTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = rt::MakeLoop();
    ASSERT_TRUE(made);
    loop = std::move(*made);
    loop->RunAt(loop->Now() + 30s, [this] {
      ADD_FAILURE() << "too late";
      loop->Stop();
    });
  }

  std::unique_ptr<rt::Loop> loop;
};

TEST_F(LongPromptTest, IsTokenizedOnAnotherThread) {
  std::unique_ptr<rt::Net> net = rt::MakeNet(*loop);
  testing::FakeWorker worker(*loop);
  worker.mutable_card().context_tokens_max = 1'000'000;
  FrontendOptions options;
  options.text_threads = 1;
  options.text_offload_bytes_min = 1000;
  ServedModel model{.names = {"tiny"},
                    .text = std::make_shared<testing::FakeText>(),
                    .defaults = {},
                    .created = 1};
  std::optional<Frontend> frontend;
  frontend.emplace(FrontendEnvironment{.loop = *loop, .net = *net}, options, ApiKeys());
  frontend->Serve(model, worker);
  auto address = frontend->Start({.host = "127.0.0.1", .port = 0});
  ASSERT_TRUE(address);
  std::string answer;
  auto talk = [&](std::string body, bool leave) -> rt::Task<void> {
    auto stream = co_await net->Connect(*address, rt::kNever);
    std::string raw =
        "POST /v1/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
    auto written = co_await (*stream)->Write(raw, rt::kNever);
    if (leave) {
      (*stream)->Close();
      co_return;
    }
    std::vector<char> buffer(4096);
    while (true) {
      auto got = co_await (*stream)->Read(buffer, rt::kNever);
      if (!got || *got == 0) {
        break;
      }
      answer.append(buffer.data(), *got);
    }
    loop->Stop();
  };
  std::string prompt(50'000, 'x');
  loop->Spawn(talk(R"({"prompt":")" + prompt + R"("})", true));
  loop->Spawn(talk(R"({"prompt":")" + prompt + R"(","bad":1})", false));
  loop->Run();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400")) << answer.substr(0, 200);
  answer.clear();
  loop->Spawn(talk(R"({"prompt":")" + prompt + R"(","max_tokens":3})", false));
  loop->Run();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer.substr(0, 200);
  EXPECT_NE(answer.find(R"("prompt_tokens":50001)"), std::string::npos);
  EXPECT_EQ(worker.seen.back().prompt.size(), 50'001U);
  frontend.reset();
}

}  // namespace
}  // namespace pixii::frontend
