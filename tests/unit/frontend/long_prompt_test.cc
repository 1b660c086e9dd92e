// Prompts that are long enough are tokenized beside the I/O loop, and pictures are got there.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "frontend/frontend.h"
#include "unit/frontend/fake_text.h"
#include "unit/frontend/fake_worker.h"
#include "unit/rt/real_loop.h"

namespace pixii::frontend {
namespace {

using namespace std::chrono_literals;

class LongPromptTest : public rt::RealLoopTest {
 protected:
  void SetUp() override {
    RealLoopTest::SetUp();
    net = rt::MakeNet(*loop);
    worker.emplace(*loop);
    worker->mutable_card().context_tokens_max = 1'000'000;
    options.text_threads = 1;
    options.media_threads = 1;
    options.anthropic_api = true;
  }

  void TearDown() override { frontend.reset(); }

  void Start() {
    frontend.emplace(FrontendEnvironment{.loop = *loop, .net = *net}, options, ApiKeys());
    frontend->Serve(model, *worker);
    auto bound = frontend->Start({.host = "127.0.0.1", .port = 0});
    ASSERT_TRUE(bound);
    address = *bound;
  }

  // `leave`: before there is an answer; else the loop stops behind it.
  rt::Task<void> Talk(std::string path, std::string body, bool leave) {
    auto stream = co_await net->Connect(address, rt::kNever);
    std::string raw = "POST " + path +
                      " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: " +
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
  }

  std::string Post(std::string path, std::string body) {
    answer.clear();
    loop->Spawn(Talk(std::move(path), std::move(body), false));
    loop->Run();
    return std::move(answer);
  }

  std::unique_ptr<rt::Net> net;
  std::optional<testing::FakeWorker> worker;
  FrontendOptions options;
  ServedModel model{.names = {"tiny"},
                    .text = std::make_shared<testing::FakeText>(),
                    .defaults = {},
                    .created = 1};
  std::optional<Frontend> frontend;
  rt::Address address;
  std::string answer;
};

TEST_F(LongPromptTest, IsTokenizedOnAnotherThread) {
  options.text_offload_bytes_min = 1000;
  Start();
  std::string prompt(50'000, 'x');
  loop->Spawn(Talk("/v1/completions", R"({"prompt":")" + prompt + R"("})", true));
  std::string said = Post("/v1/completions", R"({"prompt":")" + prompt + R"(","bad":1})");
  EXPECT_TRUE(said.starts_with("HTTP/1.1 400")) << said.substr(0, 200);
  said = Post("/v1/completions", R"({"prompt":")" + prompt + R"(","max_tokens":3})");
  EXPECT_TRUE(said.starts_with("HTTP/1.1 200")) << said.substr(0, 200);
  EXPECT_NE(said.find(R"("prompt_tokens":50001)"), std::string::npos);
  EXPECT_EQ(worker->seen.back().prompt.size(), 50'001U);
}

// To get one may wait for the network and for other processes, and nobody else may wait for that.
TEST_F(LongPromptTest, PicturesAreGotOnAnotherThread) {
  worker->mutable_card().vision = wire::VisionCard{
      .image_token = testing::kImage, .width = 28, .height = 28, .patch_size = 14, .merge_size = 2};
  std::vector<std::thread::id> threads;
  model.images = [&threads](const std::string&) -> Result<media::Image> {
    threads.push_back(std::this_thread::get_id());
    return media::Image{.size = {.width = 28, .height = 28},
                        .rgb = std::vector<std::uint8_t>(std::size_t{28} * 28 * 3)};
  };
  Start();
  const auto shows = [&](std::string path, std::string body) {
    const std::size_t before = threads.size();
    std::string said = Post(std::move(path), std::move(body));
    EXPECT_TRUE(said.starts_with("HTTP/1.1 200")) << said.substr(0, 400);
    EXPECT_GT(threads.size(), before);
    return said;
  };
  shows("/v1/chat/completions",
        R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":"u"}]}]})");
  shows("/v1/chat/completions",
        R"({"messages":[{"role":"user","content":[{"type":"image\u005furl",)"
        R"("image\u005furl":"u"}]}]})");
  shows("/v1/messages", R"({"model":"tiny","max_tokens":9,"messages":[{"role":"user","content":[)"
                        R"({"type":"image","source":{"type":"url","url":"u"}}]}]})");
  const std::string first =
      shows("/v1/responses",
            R"({"input":[{"role":"user","content":[{"type":"input_image","image_url":"u"}]}]})");
  const std::size_t id = first.find("resp_");
  ASSERT_NE(id, std::string::npos);
  shows("/v1/responses", R"({"input":"and now?","previous_response_id":")" +
                             first.substr(id, first.find('"', id) - id) + R"("})");
  for (const std::thread::id thread : threads) {
    EXPECT_NE(thread, std::this_thread::get_id());
  }
}

// A safetensors file may have to come from another host, as any picture.
TEST_F(LongPromptTest, EmbeddingsAreGotOnAnotherThread) {
  worker->mutable_card().vision =
      wire::VisionCard{.image_token = testing::kImage, .merge_size = 2, .row_size = 3};
  std::optional<std::thread::id> thread;
  model.files = [&thread](const std::string&) -> Result<std::string> {
    thread = std::this_thread::get_id();
    return Fail(Code::kInvalidArgument, "no such file");
  };
  model.images = [](const std::string&) -> Result<media::Image> {
    return Fail(Code::kInternal, "embeddings are no picture");
  };
  Start();
  const std::string said =
      Post("/v1/chat/completions", R"({"messages":[{"role":"user","content":[)"
                                   R"({"type":"image_embeds","image_embeds":"https://h/e"}]}]})");
  EXPECT_NE(said.find("no such file"), std::string::npos) << said;
  ASSERT_TRUE(thread);
  EXPECT_NE(*thread, std::this_thread::get_id());
}

TEST_F(LongPromptTest, PicturesOfABodyDoNotWaitForThoseOfOtherHosts) {
  worker->mutable_card().vision = wire::VisionCard{
      .image_token = testing::kImage, .width = 28, .height = 28, .patch_size = 14, .merge_size = 2};
  options.media_wait_threads = 1;
  std::promise<void> seen;  // the body's own picture
  model.images = [&seen,
                  far = seen.get_future().share()](const std::string& url) -> Result<media::Image> {
    if (url.starts_with("data:")) {
      seen.set_value();
    } else {
      far.wait();  // a host that is slow: as long as the other picture takes
    }
    return media::Image{.size = {.width = 28, .height = 28},
                        .rgb = std::vector<std::uint8_t>(std::size_t{28} * 28 * 3)};
  };
  Start();
  const auto show = [](const std::string& url) {
    return R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":")" + url +
           R"("}]}]})";
  };
  loop->Spawn(Talk("/v1/chat/completions", show(R"(https:\/\/h\/slow)"), true));
  const std::string said = Post("/v1/chat/completions", show("data:image/png;base64,AAAA"));
  EXPECT_TRUE(said.starts_with("HTTP/1.1 200")) << said.substr(0, 400);
}

}  // namespace
}  // namespace pixii::frontend
