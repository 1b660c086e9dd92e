// A worker over every transport that there is: mutual TLS, TCP and Unix sockets of the system.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/remote_link.h"
#include "engine/mock_executor.h"
#include "rt/sim_world.h"
#include "rt/tls.h"
#include "unit/rt/test_certificates.h"
#include "worker/local_link.h"
#include "worker/worker_service.h"

namespace pixii::worker {
namespace {

constexpr std::uint32_t kVocab = 64;
constexpr std::uint32_t kContext = 512;

std::unique_ptr<engine::Engine> MakeEngine() {
  auto executor = std::make_unique<engine::MockExecutor>(
      engine::MockOptions{.limits = {.vocab_size = kVocab,
                                     .context_tokens_max = kContext,
                                     .block_tokens = 4,
                                     .block_count = 512,
                                     .step_tokens_max = 64,
                                     .step_logit_rows_max = 64},
                          .timing = {},
                          .faults = {}});
  return std::move(*engine::Engine::Create(
      {.batch_sequences_max = 8, .batch_tokens_max = 32, .queue_length_max = 64},
      std::move(executor)));
}

wire::GenerateRequest MakeRequest() {
  wire::GenerateRequest request;
  request.id = RequestId{1};
  request.prompt.assign(200, 3);  // more than a piece
  request.sampling.seed = 5;
  request.stop.max_tokens = 100;
  return request;
}

struct Worker {
  Worker(rt::Loop& loop, rt::Net& net)
      : engine(loop, MakeEngine()),
        link(loop, engine, {.name = "mock", .eos_token_ids = {}}),
        service(loop, net, link, {.mux = {.name = "worker"}}) {}

  engine::EngineLoop engine;
  LocalLink link;
  WorkerService service;
};

struct Frontend {
  Frontend(rt::Loop& loop, rt::Net& net, rt::Address address)
      : link(loop, net, {.address = std::move(address), .mux = {.name = "frontend"}}, {}, [this] {
          if (link.state() == control::RemoteLink::State::kHere && !begun) {
            begun = true;
            EXPECT_TRUE(link.Generate(MakeRequest(), [this](const wire::TokenFrame& frame) {
              tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
              ended = ended || frame.finish.has_value();
              if (ended) {
                on_end();
              }
            }));
          }
        }) {}

  bool begun = false;
  bool ended = false;
  std::vector<TokenId> tokens;
  std::function<void()> on_end = [] {};
  control::RemoteLink link;
};

void ExpectOracle(const Frontend& frontend) {
  EXPECT_EQ(frontend.tokens, engine::MockStream(MakeRequest(), 0, kVocab, kContext).tokens);
}

class WorkerTlsTest : public testing::Test {
 protected:
  // Whether a frontend with `files` is served within a while; none: it speaks no TLS.
  bool IsServed(const std::optional<rt::TlsFiles>& files, const std::string& server_name) {
    rt::SimNode& node = world_.AddNode("frontend" + std::to_string(++frontends_));
    std::unique_ptr<rt::Net> secure;
    if (files) {
      secure = rt::MakeTlsNet(node.loop(), node.net(), std::shared_ptr<const rt::TlsContext>(),
                              rt::TlsContext::ForClient(*files, server_name).value());
    }
    Frontend frontend(node.loop(), secure ? *secure : node.net(), {.host = "worker", .port = 7000});
    const bool served =
        world_.RunUntil([&] { return frontend.ended; }, world_.now() + std::chrono::seconds(30)) ==
        rt::SimEnd::kDone;
    if (served) {
      ExpectOracle(frontend);
    } else {
      EXPECT_FALSE(frontend.begun);
    }
    return served;
  }

  rt::TlsFiles Signed(rt::TestAuthority& by) {
    rt::TlsFiles files = by.Sign("frontend");
    files.authorities = authority_.file();
    return files;
  }

  rt::TestAuthority authority_;
  rt::SimWorld world_{rt::SimOptions{.seed = 11}};
  int frontends_ = 0;
};

TEST_F(WorkerTlsTest, ServesThoseThatItsAuthoritySignedAndNobodyElse) {
  rt::TlsFiles server = authority_.Sign("worker");
  server.authorities = authority_.file();
  rt::SimNode& node = world_.AddNode("worker");
  const std::unique_ptr<rt::Net> net =
      rt::MakeTlsNet(node.loop(), node.net(), rt::TlsContext::ForServer(server).value(),
                     std::shared_ptr<const rt::TlsContext>());
  Worker worker(node.loop(), *net);
  ASSERT_TRUE(worker.service.Start({.host = "0.0.0.0", .port = 7000}));
  rt::TestAuthority stranger("stranger");
  EXPECT_TRUE(IsServed(Signed(authority_), "worker"));
  EXPECT_FALSE(IsServed(std::nullopt, "")) << "in the clear";
  EXPECT_FALSE(IsServed(Signed(stranger), "worker")) << "of another authority";
  EXPECT_FALSE(IsServed(rt::TlsFiles{.authorities = authority_.file()}, "worker")) << "of none";
  EXPECT_FALSE(IsServed(Signed(authority_), "other")) << "the worker is not the one it wants";
  EXPECT_TRUE(IsServed(Signed(authority_), "worker")) << "nobody was harmed";
  EXPECT_EQ(worker.service.request_count(), 0U);
}

TEST(WorkerTransport, RunsOverSocketsOfTheSystem) {
  const std::string path = testing::TempDir() + "pixii_worker_transport_test.sock";
  for (const rt::Address& address : {rt::Address{.host = "127.0.0.1", .port = 0},
                                     rt::Address{.host = "unix:" + path, .port = 0}}) {
    SCOPED_TRACE(address.ToString());
    const std::unique_ptr<rt::Loop> loop = rt::MakeLoop().value();
    const std::unique_ptr<rt::Net> net = rt::MakeNet(*loop);
    Worker worker(*loop, *net);
    const rt::Address bound = worker.service.Start(address).value();
    Frontend frontend(*loop, *net, bound);
    frontend.on_end = [&] { loop->Stop(); };
    loop->RunAt(loop->Now() + std::chrono::seconds(30), [&] { loop->Stop(); });
    loop->Run();
    EXPECT_TRUE(frontend.ended);
    ExpectOracle(frontend);
  }
}

}  // namespace
}  // namespace pixii::worker
