// Clients that hang up, crawl, never read or come too late: cases 3 to 5 of the
// field report, and drain.
#include <algorithm>
#include <deque>

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using testing::StreamedText;
using wire::Json;
using namespace std::chrono_literals;

constexpr std::string_view kForever = R"("max_tokens":150,"ignore_eos":true)";

std::string With(std::string_view more) { return std::string(kForever) + "," + std::string(more); }

class FrontendRobustnessTest : public FrontendTest {
 protected:
  // A chat that waits for the engine.
  void Begin(Session& session, std::string_view more, bool shutdown = false) {
    worker.automatic = false;
    tasks.Start(
        Talk(session, Raw("POST", "/v1/chat/completions", ChatBody(more)), 1, shutdown, false));
    ASSERT_TRUE(Until([&] { return worker.seen.size() == 1; }));
  }
};

TEST_F(FrontendRobustnessTest, Case5AClosedConnectionCancelsWithinASecond) {
  for (std::string_view more : {"\"n\":2", "\"stream\":true"}) {
    for (bool with_token : {false, true}) {
      worker.seen.clear();
      worker.cancels.clear();
      if (!frontend) {
        Start();
      }
      Session session;
      Begin(session, more);
      if (with_token) {
        worker.Emit(worker.seen[0].id, 0, "a");
        world.RunTo(world.now() + 10ms);
      }
      rt::Time hung_up = world.now();
      session.stream->Close();
      EXPECT_TRUE(Until([&] { return !worker.cancels.empty(); }, 10s)) << more;
      EXPECT_LT(world.now() - hung_up, 1s) << more;
      ExpectQuiet();
      EXPECT_TRUE(Until([&] { return session.done && frontend->connection_count() == 0; }, 10s));
    }
  }
}

TEST_F(FrontendRobustnessTest, Case5AHalfClosedClientIsServed) {
  Start();
  for (std::string_view more : {"\"n\":1", "\"stream\":true"}) {
    worker.seen.clear();
    Session session;
    Begin(session, more, /*shutdown=*/true);
    world.RunTo(world.now() + 5s);
    EXPECT_TRUE(worker.cancels.empty()) << "it still reads";
    worker.Emit(worker.seen[0].id, 0, "late");
    worker.End(worker.seen[0].id, 0, wire::FinishReason::kStop);
    ASSERT_TRUE(Until([&] { return session.done; }, 10s));
    ASSERT_EQ(session.replies.size(), 1U) << more;
    EXPECT_EQ(session.replies[0].status, 200);
    EXPECT_NE(session.replies[0].body.find("late"), std::string::npos);
    EXPECT_TRUE(session.replies[0].complete);
  }
  ExpectQuiet();
}

TEST_F(FrontendRobustnessTest, Case4AClientThatNeverReadsIsBoundedAndThenCancelled) {
  worker.mutable_card().context_tokens_max = 10'000'000;
  worker.tokens_per_turn = 4;
  options.held_tokens_max = 2'000;
  Start();
  auto connect = [this](Session& session) -> rt::Task<void> {
    auto stream = co_await client.net().Connect(address, rt::kNever);
    session.stream = std::move(*stream);
    std::string raw = Raw("POST", "/v1/chat/completions",
                          ChatBody(R"("stream":true,"max_tokens":5000000,"ignore_eos":true)"));
    auto written = co_await session.stream->Write(raw, rt::kNever);
    session.done = true;  // and never a read
  };
  Session session;
  tasks.Start(connect(session));
  ASSERT_TRUE(Until([&] { return !worker.cancels.empty(); }, 60s));
  Reply other = Chat();
  EXPECT_EQ(other.status, 200) << "others are served";
  ExpectQuiet();
  EXPECT_GE(frontend->cancelled_count(), 1U);
}

TEST_F(FrontendRobustnessTest, ASlowReaderGetsEverythingInFewerChunks) {
  worker.mutable_card().context_tokens_max = 1'000'000;
  worker.tokens_per_turn = 2;
  options.http.unsent_bytes_max = 4'096;
  options.held_tokens_max = 1'000'000;
  world.options().window_size_bytes_max = 8'192;
  world.options().latency_max = 2ms;
  Start();
  Reply reply = Chat(R"("stream":true,"max_tokens":5000,"ignore_eos":true)");
  ASSERT_EQ(reply.status, 200);
  std::vector<Json> chunks = reply.chunks();
  EXPECT_EQ(StreamedText(chunks).size(), 5000U);
  EXPECT_TRUE(worker.cancels.empty());
}

TEST_F(FrontendRobustnessTest, Case3HeadsAndBodiesThatCrawlAreEnded) {
  Start();
  auto crawl = [this](Session& session, std::string head, rt::Duration pause) -> rt::Task<void> {
    auto stream = co_await client.net().Connect(address, rt::kNever);
    session.stream = std::move(*stream);
    for (char c : head) {
      auto wrote = session.stream->TryWrite({&c, 1});
      if (!wrote) {
        break;
      }
      auto sleep = client.loop().SleepFor(pause);
      co_await std::move(sleep);
    }
  };
  auto read = [](Session& session) -> rt::Task<void> {
    std::vector<char> buffer(1024);
    while (true) {
      auto got = co_await session.stream->Read(buffer, rt::kNever);
      if (!got || *got == 0) {
        break;
      }
      session.unread.append(buffer.data(), *got);
    }
    session.done = true;
  };

  struct Row {
    std::string bytes;
    rt::Duration pause;
    rt::Duration limit;
  };

  std::string body = "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
  std::deque<Session> sessions;  // the crawling coroutines go on behind the loop
  for (const Row& row : {Row{"GET /v1/models HTTP/1.1\r\nX: " + std::string(100, 'a'), 9s, 12s},
                         Row{body + std::string(200, 'x'), 100ms, 40s}}) {
    Session& session = sessions.emplace_back();
    rt::Time start = world.now();
    tasks.Start(crawl(session, row.bytes, row.pause));
    ASSERT_TRUE(Until([&] { return session.stream != nullptr; }));
    tasks.Start(read(session));
    ASSERT_TRUE(Until([&] { return session.done; }, 120s));
    EXPECT_LT(world.now() - start, row.limit);
    EXPECT_TRUE(session.unread.starts_with("HTTP/1.1 408 ")) << session.unread;
  }
  Session silent;
  tasks.Start(crawl(silent, "", 1s));
  ASSERT_TRUE(Until([&] { return silent.stream != nullptr; }));
  tasks.Start(read(silent));
  ASSERT_TRUE(Until([&] { return silent.done; }, 60s))
      << "a connection that says nothing is closed";
  EXPECT_TRUE(silent.unread.empty());
  EXPECT_TRUE(Until([&] { return frontend->connection_count() == 0; }, 60s));
}

TEST_F(FrontendRobustnessTest, TheConnectionBoundAnswersAndCloses) {
  options.http.connections_max = 1;
  Start();
  Session first;
  tasks.Start(Talk(first, "GET /li", 1, false, false));
  ASSERT_TRUE(Until([&] { return frontend->connection_count() == 1; }));
  auto refused = Exchange(Raw("GET", "/live"), 0);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].status, 503);
  EXPECT_EQ(refused[0].Field("retry-after"), "1");
}

TEST_F(FrontendRobustnessTest, DrainRefusesNewWorkAndLetsRunningWorkEnd) {
  Start();
  Session running;
  Begin(running, "\"stream\":true");
  worker.Emit(worker.seen[0].id, 0, "a");
  Session waiting;  // a connection from before the drain
  tasks.Start(Talk(waiting, "GET /live HTT", 1, false, false));
  ASSERT_TRUE(Until([&] { return frontend->connection_count() == 2; }));
  world.RunTo(world.now() + 10ms);
  bool drained = false;
  auto drain = [this, &drained]() -> rt::Task<void> {
    auto task = frontend->Drain(world.now() + 60s);
    co_await std::move(task);
    drained = true;
  };
  tasks.Start(drain());
  auto refused = Exchange(Raw("POST", "/v1/chat/completions", ChatBody()), 0);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].status, 503);
  EXPECT_EQ(refused[0].Field("retry-after"), "1");
  EXPECT_EQ(refused[0].Field("connection"), "close");
  EXPECT_EQ(Get("/health").status, 503);
  EXPECT_EQ(Get("/ready").status, 503);
  EXPECT_EQ(Get("/live").status, 200);
  EXPECT_FALSE(drained);
  worker.Emit(worker.seen[0].id, 0, "b");
  worker.End(worker.seen[0].id, 0, wire::FinishReason::kStop);
  ASSERT_TRUE(Until([&] { return running.done && drained; }, 30s));
  EXPECT_EQ(StreamedText(running.replies.at(0).chunks()), "ab");
  EXPECT_EQ(frontend->connection_count(), 0U);
}

TEST_F(FrontendRobustnessTest, DrainEndsWhatOutlivesItsDeadlineWithAnError) {
  Start();
  Session unary;
  Begin(unary, "\"n\":1");
  bool drained = false;
  auto drain = [this, &drained]() -> rt::Task<void> {
    auto task = frontend->Drain(world.now() + 3s);
    co_await std::move(task);
    drained = true;
  };
  tasks.Start(drain());
  ASSERT_TRUE(Until([&] { return drained && unary.done; }, 30s));
  EXPECT_EQ(unary.replies.at(0).status, 503);
  EXPECT_FALSE(worker.cancels.empty());
}

TEST_F(FrontendRobustnessTest, IsReadyOnlyAfterARealGeneration) {
  worker.refusal = Error(Code::kUnavailable, "no engine yet");
  Start();
  world.RunTo(world.now() + 100ms);
  EXPECT_EQ(Get("/ready").status, 503);
  EXPECT_TRUE(Get("/v1/models").json().Find("data")->array().empty()) << "listed once it answers";
  worker.refusal.reset();
  EXPECT_TRUE(Until([&] { return frontend->ready(); }, 5s));
  Reply health = Get("/health");
  EXPECT_EQ(health.status, 200);
  EXPECT_EQ(health.json().Find("status")->string(), "healthy");
}

TEST_F(FrontendRobustnessTest, AnEngineThatStopsIsNoticedWithoutTraffic) {
  options.canary_interval = 5s;
  options.canary_timeout = 5s;
  Start();
  worker.stalled = true;
  EXPECT_TRUE(Until([&] { return !frontend->ready(); }, 30s));
  worker.stalled = false;
  worker.open.clear();
  EXPECT_TRUE(Until([&] { return frontend->ready(); }, 30s));
}

TEST_F(FrontendRobustnessTest, RandomCancelsAndSlowReadersLeaveNothingBehind) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    rt::Random random(seed);
    worker.automatic = true;
    worker.tokens_per_turn = 1;
    if (!frontend) {
      Start();
    }
    std::vector<std::unique_ptr<Session>> sessions;
    for (int i = 0; i < 40; ++i) {
      auto session = std::make_unique<Session>();
      std::string more = random.Chance(0.5) ? With("\"stream\":true") : With("\"n\":2");
      tasks.Start(
          Talk(*session, Raw("POST", "/v1/chat/completions", ChatBody(more)), 1, false, false));
      sessions.push_back(std::move(session));
      world.RunTo(world.now() + rt::Duration(random.Below(2'000'000)));
      Session& victim = *sessions[random.Below(sessions.size())];
      if (random.Chance(0.4) && victim.stream) {
        victim.stream->Close();
      }
    }
    EXPECT_TRUE(Until(
        [&] {
          return std::all_of(sessions.begin(), sessions.end(),
                             [](const auto& session) { return session->done; });
        },
        120s))
        << "seed " << seed;
    ExpectQuiet();
    sessions.clear();
    EXPECT_TRUE(Until([&] { return frontend->connection_count() == 0; }, 120s));
  }
}

}  // namespace
}  // namespace pixii::frontend
