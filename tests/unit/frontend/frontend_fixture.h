// A whole frontend over a fake worker in a simulated world, and an HTTP client that talks to it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "frontend/frontend.h"
#include "rt/sim_world.h"
#include "unit/frontend/fake_text.h"
#include "unit/frontend/fake_worker.h"
#include "wire/http_response_parser.h"
#include "wire/json.h"
#include "wire/sse.h"

namespace pixii::frontend::testing {

using namespace std::chrono_literals;

struct Reply {
  int status = 0;  // 0: the connection ended without a response
  std::vector<wire::HttpField> fields;
  std::string body;
  bool keep_alive = false;
  bool complete = false;  // false: the connection ended inside
  std::uint32_t interim_count = 0;

  std::string_view Field(std::string_view name) const {
    for (const wire::HttpField& field : fields) {
      if (wire::EqualsIgnoreCase(field.name, name)) {
        return field.value;
      }
    }
    return {};
  }

  wire::Json json() const {
    auto parsed = wire::ParseJson(body);
    EXPECT_TRUE(parsed) << body;
    return parsed ? *parsed : wire::Json();
  }

  std::vector<std::string> events() const {
    wire::SseParser parser;
    std::vector<wire::SseEvent> events;
    EXPECT_TRUE(parser.Feed(body, events));
    std::vector<std::string> out;
    for (wire::SseEvent& event : events) {
      out.push_back(std::move(event.data));
    }
    return out;
  }

  /// Events as JSON without the closing [DONE], which must be there exactly when `done`.
  std::vector<wire::Json> chunks(bool done = true) const {
    std::vector<std::string> all = events();
    EXPECT_EQ(!all.empty() && all.back() == "[DONE]", done) << body;
    if (!all.empty() && all.back() == "[DONE]") {
      all.pop_back();
    }
    std::vector<wire::Json> out;
    for (const std::string& event : all) {
      auto parsed = wire::ParseJson(event);
      EXPECT_TRUE(parsed) << event;
      out.push_back(parsed ? *parsed : wire::Json());
    }
    return out;
  }

  std::string param() const {
    wire::Json value = json();
    const wire::Json* error = value.Find("error");
    const wire::Json* found = error == nullptr ? nullptr : error->Find("param");
    return found != nullptr && found->is_string() ? found->string() : "";
  }
};

/// Choice `index` of a unary body or a chunk.
inline const wire::Json& Choice(const wire::Json& body, std::size_t index = 0) {
  static const wire::Json kNone;
  const wire::Json* choices = body.Find("choices");
  return choices != nullptr && index < choices->array().size() ? choices->array()[index] : kNone;
}

/// Text of choice `index` over all chunks of a chat stream.
inline std::string StreamedText(const std::vector<wire::Json>& chunks, std::int64_t index = 0) {
  std::string out;
  for (const wire::Json& chunk : chunks) {
    for (const wire::Json& choice : chunk.Find("choices")->array()) {
      if (choice.Find("index")->AsInt() != index) {
        continue;
      }
      const wire::Json* delta = choice.Find("delta");
      const wire::Json* text = delta != nullptr ? delta->Find("content") : choice.Find("text");
      out += text != nullptr ? text->string() : "";
    }
  }
  return out;
}

class FrontendTest : public ::testing::Test {
 protected:
  explicit FrontendTest(std::uint64_t seed = 1)
      : world(rt::SimOptions{.seed = seed}),
        server(world.AddNode("server")),
        client(world.AddNode("client")) {}

  ~FrontendTest() override {
    tasks.Clear();
    frontend.reset();
  }

  FrontendOptions options;
  ServedModel model{.names = {"tiny", "alias"},
                    .text = std::make_shared<FakeText>(),
                    .defaults = {},
                    .created = 11};
  ApiKeys keys;
  rt::SimWorld world;
  rt::SimNode& server;
  rt::SimNode& client;
  FakeWorker worker{server.loop()};
  std::optional<Frontend> frontend;
  rt::Address address;
  rt::SpawnedTasks tasks;

  void Start() {
    FrontendEnvironment environment{.loop = server.loop(), .net = server.net()};
    frontend.emplace(environment, options, keys);
    frontend->Serve(model, worker);
    auto bound = frontend->Start({.host = "server", .port = 8000});
    ASSERT_TRUE(bound) << bound.error().ToString();
    address = {.host = "server", .port = bound->port};
    if (!worker.refusal && !worker.stalled) {
      EXPECT_TRUE(Until([&] { return frontend->ready(); }));
    }
  }

  /// Before Start. The URL "data:image/png;base64,3" and "https://pictures/3" are a picture of
  /// three tokens, and so on; other letters there are no picture.
  void ShowPictures() {
    worker.mutable_card().vision = wire::VisionCard{.image_token = kImage,
                                                    .fit = wire::MediaFit::kSmart,
                                                    .pixels_min = 1,
                                                    .pixels_max = 1 << 20,
                                                    .patch_size = 14,
                                                    .merge_size = 2};
    model.images = [](const std::string& url) -> Result<media::Image> {
      const std::uint32_t count = static_cast<std::uint32_t>(url.back()) - '0';
      if (count < 1 || count > 9) {
        return Fail(Code::kInvalidArgument, "is no picture");
      }
      media::Image out{.size = {.width = 28 * count, .height = 28}, .rgb = {}};
      out.rgb.assign(out.row_bytes() * out.size.height, static_cast<std::uint8_t>(count));
      return out;
    };
  }

  bool Until(const std::function<bool()>& done, rt::Duration limit = 600s) {
    return world.RunUntil(done, world.now() + limit) == rt::SimEnd::kDone;
  }

  static std::string Raw(std::string_view method, std::string_view path, std::string_view body = {},
                         std::string_view fields = {}) {
    std::string out =
        std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: server\r\n";
    out += fields;
    if (!body.empty() || method == "POST") {
      out += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
             "\r\n";
    }
    out += "\r\n";
    out += body;
    return out;
  }

  struct Session {
    std::unique_ptr<rt::Stream> stream;
    std::string unread;
    std::vector<Reply> replies;
    bool ended = false;  // the server closed
    bool done = false;   // the task ended
  };

  // Writes `raw`, reads `count` responses (or all until the server closes).
  rt::Task<void> Talk(Session& session, std::string raw, std::size_t count, bool shutdown,
                      bool head) {
    auto stream = co_await client.net().Connect(address, rt::kNever);
    if (!stream) {
      session.done = true;
      co_return;
    }
    session.stream = std::move(*stream);
    auto written = co_await session.stream->Write(raw, rt::kNever);
    if (shutdown) {
      session.stream->ShutdownWrite();
    }
    wire::HttpResponseParser parser;
    if (head) {
      parser.ExpectNoBody();
    }
    std::string body;
    std::vector<char> buffer(4096);
    while (session.replies.size() < count) {
      auto got = co_await session.stream->Read(buffer, rt::kNever);
      if (!got || *got == 0) {
        session.ended = true;
        if (parser.head_complete()) {
          bool whole = parser.FeedEnd().has_value();
          body += parser.TakeBody();
          session.replies.push_back(
              {parser.status(), parser.fields(), body, false, whole, parser.interim_count()});
        }
        break;
      }
      session.unread.append(buffer.data(), *got);
      while (true) {
        auto used = parser.Feed(session.unread);
        EXPECT_TRUE(used) << session.unread;
        if (!used) {
          session.done = true;
          co_return;
        }
        session.unread.erase(0, *used);
        if (!parser.complete()) {
          break;
        }
        body += parser.TakeBody();
        session.replies.push_back({parser.status(), parser.fields(), body, parser.keep_alive(),
                                   true, parser.interim_count()});
        body.clear();
        parser.Next();
      }
      body += parser.head_complete() ? parser.TakeBody() : "";
    }
    session.done = true;
  }

  /// Sends raw bytes on a fresh connection and returns the responses. `count` 0: until the server
  /// closes.
  std::vector<Reply> Exchange(std::string raw, std::size_t count = 1, bool shutdown = false,
                              bool head = false) {
    Session session;
    tasks.Start(Talk(session, std::move(raw), count == 0 ? SIZE_MAX : count, shutdown, head));
    EXPECT_TRUE(Until([&] { return session.done; })) << "no answer";
    return std::move(session.replies);
  }

  Reply One(std::string raw) {
    auto replies = Exchange(std::move(raw));
    return replies.empty() ? Reply{} : std::move(replies.front());
  }

  Reply Get(std::string_view path, std::string_view fields = {}) {
    return One(Raw("GET", path, {}, fields));
  }

  Reply Post(std::string_view path, std::string_view body, std::string_view fields = {}) {
    return One(Raw("POST", path, body, fields));
  }

  Reply Chat(std::string_view more = {}, std::string_view content = "hi") {
    return Post("/v1/chat/completions", ChatBody(more, content));
  }

  static std::string ChatBody(std::string_view more = {}, std::string_view content = "hi") {
    std::string out = R"({"model":"tiny","messages":[{"role":"user","content":)" +
                      wire::Json(content).Dump() + "}]";
    if (!more.empty()) {
      out += ",";
      out += more;
    }
    return out + "}";
  }

  /// Nothing of any request is left.
  void ExpectQuiet() {
    EXPECT_TRUE(
        Until([&] { return frontend->generation_count() == 0 && worker.open.empty(); }, 30s));
  }
};

}  // namespace pixii::frontend::testing
