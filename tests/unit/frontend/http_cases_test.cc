// The shared HTTP cases against the real server: real sockets on loopback, the driver as cases.json
// states it.
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "frontend/frontend.h"
#include "support/golden.h"
#include "unit/frontend/fake_text.h"
#include "unit/frontend/fake_worker.h"
#include "wire/http_response_parser.h"
#include "wire/json.h"

namespace pixii::frontend {
namespace {

using wire::Json;
using namespace std::chrono_literals;

struct Case {
  std::string id;
  std::vector<std::pair<std::string, rt::Duration>> send;
  std::string outcome;
  std::set<int> statuses;
  std::string connection;
  std::size_t responses_min = 1;
  std::size_t responses_max = 1;
  bool close_without_response_ok = false;
  bool interim_expected = false;
};

struct Seen {
  std::vector<int> statuses;
  std::uint32_t interim_count = 0;
  bool closed = false;
  bool broken = false;  // bytes that are no response
  std::string bytes;
  bool done = false;
};

std::vector<Case> ReadCases(const std::string& folder) {
  std::vector<Case> out;
  auto parsed = wire::ParseJson(pixii::testing::ReadFileOrFail(folder + "/cases.json"));
  EXPECT_TRUE(parsed);
  for (const Json& entry : parsed->Find("cases")->array()) {
    Case one;
    one.id = entry.Find("id")->string();
    for (const Json& piece : entry.Find("send")->array()) {
      one.send.emplace_back(
          pixii::testing::ReadFileOrFail(folder + "/" + piece.Find("file")->string()),
          std::chrono::milliseconds(*piece.Find("pause_ms_after")->AsInt()));
    }
    one.outcome = entry.Find("outcome")->string();
    for (const Json& status : entry.Find("status")->array()) {
      one.statuses.insert(static_cast<int>(*status.AsInt()));
    }
    one.connection = entry.Find("connection")->string();
    one.responses_min = static_cast<std::size_t>(*entry.Find("responses")->array()[0].AsInt());
    one.responses_max = static_cast<std::size_t>(*entry.Find("responses")->array()[1].AsInt());
    one.close_without_response_ok = entry.Find("close_without_response_ok") != nullptr;
    one.interim_expected = entry.Find("interim_100_expected") != nullptr;
    out.push_back(std::move(one));
  }
  return out;
}

class HttpCasesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = rt::MakeLoop();
    ASSERT_TRUE(made);
    loop = std::move(*made);
    net = rt::MakeNet(*loop);
    worker.emplace(*loop);
    FrontendEnvironment environment{.loop = *loop, .net = *net};
    ServedModel model{.names = {"tiny"},
                      .text = std::make_shared<testing::FakeText>(),
                      .defaults = {},
                      .created = 1};
    FrontendOptions options;
    options.http.linger_timeout = 100ms;
    frontend.emplace(environment, options, ApiKeys());
    frontend->Serve(model, *worker);
    auto bound = frontend->Start({.host = "127.0.0.1", .port = 0});
    ASSERT_TRUE(bound) << bound.error().ToString();
    address = *bound;
  }

  void TearDown() override {
    frontend.reset();
    worker.reset();
    net.reset();
    loop.reset();
  }

  // Quiet after the last response for a moment is taken for "stays open"; the server's limits are
  // far longer.
  rt::Task<void> Drive(const Case& one, Seen& seen) {
    auto stream = co_await net->Connect(address, loop->Now() + 5s);
    if (!stream) {
      seen.done = true;
      co_return;
    }
    for (const auto& [bytes, pause] : one.send) {
      auto written = co_await (*stream)->Write(bytes, loop->Now() + 5s);
      if (!written) {
        break;
      }
      auto sleep = loop->SleepFor(pause);
      co_await std::move(sleep);
    }
    wire::HttpResponseParser parser;
    std::string unread;
    std::vector<char> buffer(8192);
    while (!seen.broken) {
      auto got = co_await (*stream)->Read(buffer, loop->Now() + 400ms);
      if (!got || *got == 0) {
        seen.closed = got.has_value() || got.error().code() != Code::kDeadlineExceeded;
        break;
      }
      seen.bytes.append(buffer.data(), *got);
      unread.append(buffer.data(), *got);
      for (bool more = true; more;) {
        auto used = parser.Feed(unread);
        seen.broken = !used;
        unread.erase(0, used ? *used : unread.size());
        more = parser.complete();
        if (more) {
          seen.statuses.push_back(parser.status());
          parser.Next();
        }
      }
      seen.interim_count = parser.interim_count();
    }
    seen.done = true;
  }

  std::vector<Seen> RunAll(const std::vector<Case>& cases) {
    std::vector<Seen> seen(cases.size());
    std::size_t running = cases.size();
    auto each = [this, &running](const Case& one, Seen& result) -> rt::Task<void> {
      auto drive = Drive(one, result);
      co_await std::move(drive);
      if (--running == 0) {
        loop->Stop();
      }
    };
    auto all = [&]() -> rt::Task<void> {
      while (!frontend->ready()) {
        auto sleep = loop->SleepFor(1ms);
        co_await std::move(sleep);
      }
      for (std::size_t i = 0; i < cases.size(); ++i) {
        loop->Spawn(each(cases[i], seen[i]));
      }
    };
    loop->Spawn(all());
    rt::TimerId guard = loop->RunAt(loop->Now() + 60s, [this] { loop->Stop(); });
    loop->Run();
    loop->CancelTimer(guard);
    return seen;
  }

  std::unique_ptr<rt::Loop> loop;
  std::unique_ptr<rt::Net> net;
  std::optional<testing::FakeWorker> worker;
  std::optional<Frontend> frontend;
  rt::Address address;
};

// Case 5 of the field report on the kernel's own sockets; the simulated world has the rest.
TEST_F(HttpCasesTest, AClosedSocketCancelsItsRequest) {
  worker->automatic = false;
  bool served = false;
  auto leave = [&](std::string more, bool half) -> rt::Task<void> {
    std::size_t before = worker->seen.size();
    std::size_t cancels = worker->cancels.size();
    auto stream = co_await net->Connect(address, loop->Now() + 5s);
    std::string body = R"({"prompt":"x")" + more + "}";
    std::string raw = "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: " +
                      std::to_string(body.size()) + "\r\n\r\n" + body;
    auto written = co_await (*stream)->Write(raw, loop->Now() + 5s);
    while (worker->seen.size() == before) {
      auto sleep = loop->SleepFor(1ms);
      co_await std::move(sleep);
    }
    if (half) {
      (*stream)->ShutdownWrite();
      auto sleep = loop->SleepFor(300ms);
      co_await std::move(sleep);
      served = worker->cancels.size() == cancels;
    }
    stream->reset();
    while (worker->cancels.size() == cancels) {
      auto sleep = loop->SleepFor(1ms);
      co_await std::move(sleep);
    }
  };
  auto all = [&]() -> rt::Task<void> {
    auto unary = leave("", false);
    co_await std::move(unary);
    auto stream = leave(R"(,"stream":true)", false);
    co_await std::move(stream);
    auto half = leave("", true);
    co_await std::move(half);
    loop->Stop();
  };
  rt::TimerId guard = loop->RunAt(loop->Now() + 20s, [this] { loop->Stop(); });
  loop->Spawn(all());
  loop->Run();
  loop->CancelTimer(guard);
  EXPECT_EQ(worker->cancels.size(), 3U);
  EXPECT_TRUE(served) << "a half-closed client still reads";
}

TEST_F(HttpCasesTest, EveryCaseHolds) {
  auto data = pixii::testing::DataDir();
  if (!data) {
    GTEST_SKIP() << "no shared data folder";
  }
  std::vector<Case> cases = ReadCases(*data + "/http");
  ASSERT_EQ(cases.size(), 44U);
  std::vector<Seen> seen = RunAll(cases);
  // What the application says to the plain requests: the model "m" is unknown to it.
  const std::set<int> plain = {200, 404};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& one = cases[i];
    const Seen& got = seen[i];
    SCOPED_TRACE(one.id + ": " + got.bytes.substr(0, 400));
    ASSERT_TRUE(got.done);
    EXPECT_FALSE(got.broken);
    EXPECT_LE(got.statuses.size(), one.responses_max);
    if (got.statuses.empty()) {
      EXPECT_TRUE(one.close_without_response_ok && got.closed);
      continue;
    }
    EXPECT_GE(got.statuses.size(), one.responses_min);
    for (int status : got.statuses) {
      EXPECT_TRUE(status < 500 || status == 501 || status == 505) << status;
    }
    int first = got.statuses.front();
    bool handled = plain.contains(first);
    bool rejected = one.statuses.contains(first);
    if (one.outcome == "handler") {
      for (int status : got.statuses) {
        EXPECT_TRUE(plain.contains(status)) << status;
      }
    } else if (one.outcome == "reject") {
      EXPECT_TRUE(rejected) << first;
    } else {
      EXPECT_TRUE(handled || rejected) << first;
    }
    if (one.connection == "close") {
      EXPECT_TRUE(got.closed);
    } else if (one.connection == "keep") {
      EXPECT_FALSE(got.closed);
    }
    if (one.interim_expected) {
      EXPECT_EQ(got.interim_count, 1U);
    }
    EXPECT_EQ(got.bytes.find("smuggled"), std::string::npos);
  }
}

}  // namespace
}  // namespace pixii::frontend
