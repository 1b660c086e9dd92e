#include "sim/server_sim.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/engine_loop.h"
#include "engine/mock_executor.h"
#include "frontend/frontend.h"
#include "rt/sim_world.h"
#include "sim/sim_client.h"
#include "worker/local_link.h"

namespace pixii::sim {

namespace {

constexpr std::uint16_t kPort = 8000;
constexpr rt::Duration kTimeLimit =
    std::chrono::minutes(30);  // of virtual time: what is not done then hangs
constexpr rt::Duration kCheckPeriod = std::chrono::milliseconds(5);
constexpr rt::Duration kCancelGrace =
    std::chrono::seconds(2);  // promise 3: nothing held longer after a cancel

class Simulation final {
 public:
  Simulation(std::uint64_t seed, SimEngine engine)
      : engine_(std::move(engine)),
        world_(DrawWorldOptions(seed)),
        random_(seed),
        server_(world_.AddNode("server")),
        worker_(world_.AddNode("worker")),
        clients_(world_.AddNode("clients")) {
    result_.seed = seed;
  }

  SimResult Run() {
    raw_engine_ = engine_.engine.get();
    engine_loop_.emplace(worker_.loop(), std::move(engine_.engine));
    worker::LocalLinkOptions link_options;
    link_options.name = "sim";
    link_options.eos_token_ids = engine_.eos_token_ids;
    link_.emplace(server_.loop(), *engine_loop_, std::move(link_options));
    frontend::FrontendOptions options;
    options.generations_max = Pick<std::uint32_t>(random_, {4, 64, 1024});
    frontend::ServedModel model;
    model.names = {"sim"};
    frontend_.emplace(frontend::FrontendEnvironment{.loop = server_.loop(), .net = server_.net()},
                      options, frontend::ApiKeys());
    frontend_->Serve(std::move(model), *link_);
    if (auto started = frontend_->Start({.host = "server", .port = kPort}); !started) {
      Violation("the server did not start: " + started.error().ToString());
      return Finish();
    }
    CheckBlocksNow();
    if (world_.RunUntil([&] { return frontend_->ready(); }, world_.now() + kTimeLimit) !=
        rt::SimEnd::kDone) {
      Violation("the server never became ready");
      return Finish();
    }
    PlanClients();
    bool all = world_.RunUntil([&] { return open_clients_ == 0; }, world_.now() + kTimeLimit) ==
               rt::SimEnd::kDone;
    if (!all) {
      Violation(fmt::format("{} requests neither ended nor failed", open_clients_));
    }
    Judge();
    ExpectQuiet();
    return Finish();
  }

 private:
  struct Job {
    ClientPlan plan;
    ClientReport report;
  };

  void Violation(std::string text) { AddViolation(result_, std::move(text)); }

  // Oracle 3 all through the run: asserts inside, which end the process with the seed's number.
  void CheckBlocksNow() {
    if (quiet_) {
      return;
    }
    raw_engine_->CheckInvariants();
    world_.RunAt(world_.now() + kCheckPeriod, [this] { CheckBlocksNow(); });
  }

  void PlanClients() {
    const RequestBounds bounds{.vocab_size = engine_.vocab_size,
                               .context_tokens_max = raw_engine_->context_tokens_max(),
                               .eos_token_ids = engine_.eos_token_ids};
    const std::vector<TokenId> shared = DrawSharedPrompt(random_, engine_.vocab_size);
    auto count = static_cast<std::size_t>(random_.Between(4, 40));
    double mean_gap_ns = Pick(random_, {2e4, 1e6, 2e7});
    rt::Time at = world_.now();
    jobs_.reserve(count);  // reports are referred to
    for (std::size_t i = 0; i < count; ++i) {
      jobs_.push_back({DrawPlan(random_, shared, bounds), {}});
      at += rt::Duration(static_cast<std::int64_t>(random_.Exponential(mean_gap_ns)));
      ++open_clients_;
      world_.RunAt(at, [this, i] { clients_.loop().Spawn(RunJob(i)); });
    }
    if (random_.Chance(0.15)) {
      auto span =
          static_cast<std::uint64_t>(std::max<std::int64_t>(1, (at - world_.now()).count()));
      world_.RunAt(world_.now() + rt::Duration(static_cast<std::int64_t>(random_.Below(span))),
                   [this] { StartDrain(); });
    }
  }

  void StartDrain() {
    draining_ = true;
    server_.loop().Spawn(frontend_->Drain(rt::kNever));
  }

  rt::Task<void> RunJob(std::size_t index) {
    auto run = RunClient(clients_.loop(), clients_.net(), {.host = "server", .port = kPort},
                         jobs_[index].plan, jobs_[index].report);
    co_await std::move(run);
    --open_clients_;
  }

  void Judge() {
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      const ClientReport& report = jobs_[i].report;
      ++result_.requests;
      for (const std::vector<TokenId>& tokens : report.tokens) {
        result_.tokens += tokens.size();
      }
      switch (report.outcome) {
        case Outcome::kWhole:
          ++result_.finished;
          JudgeTokens(i, true);
          break;
        case Outcome::kGaveUp:
          ++result_.cancelled;
          JudgeTokens(i, false);
          break;
        case Outcome::kRefused:
          ++result_.refused;
          if (report.status == 0 && !draining_) {
            Violation(fmt::format("request {} could not connect: {}", i, report.detail));
          }
          break;
        case Outcome::kFailed:
        case Outcome::kBroken:
        case Outcome::kPending:
          // A connection made while the server closes may die before its request is read: nothing
          // was promised.
          if (draining_ && report.outcome == Outcome::kBroken && report.status == 0 &&
              NoTokens(report)) {
            ++result_.refused;
          } else {
            Violation(fmt::format("request {} broke: {}", i, report.detail));
          }
          break;
      }
    }
  }

  static bool NoTokens(const ClientReport& report) {
    return std::ranges::all_of(report.tokens, [](const auto& tokens) { return tokens.empty(); });
  }

  void JudgeTokens(std::size_t index, bool whole) {
    const Job& job = jobs_[index];
    sim::JudgeTokens(index, job.plan, job.report, engine_.expect, whole, result_);
  }

  // The last client is gone: within the grace nothing may be held for any of them.
  void ExpectQuiet() {
    auto quiet = [&] {
      return frontend_->generation_count() == 0 && raw_engine_->request_count() == 0 &&
             raw_engine_->cache().pool().pinned_count() == 0;
    };
    if (world_.RunUntil(quiet, world_.now() + kCancelGrace) != rt::SimEnd::kDone) {
      Violation(fmt::format(
          "still held {} s after the last client: {} generations, {} requests, {} blocks",
          kCancelGrace.count() / 1'000'000'000, frontend_->generation_count(),
          raw_engine_->request_count(), raw_engine_->cache().pool().pinned_count()));
    }
    if (!draining_) {
      StartDrain();
    }
    auto closed = [&] {
      return frontend_->connection_count() == 0 && clients_.loop().spawned_count() == 0;
    };
    if (world_.RunUntil(closed, world_.now() + kTimeLimit) != rt::SimEnd::kDone) {
      Violation(fmt::format("the drain left {} connections", frontend_->connection_count()));
    }
    quiet_ = true;
  }

  SimResult Finish() {
    quiet_ = true;
    engine::EngineLoad load = engine::LoadOf(*raw_engine_);
    result_.preemptions = load.scheduler.preemptions;
    result_.prefix_hit_tokens = load.scheduler.cached_tokens;
    result_.state_hash = world_.state_hash();
    result_.events = world_.event_count();
    result_.virtual_seconds =
        std::chrono::duration<double>(world_.now().time_since_epoch()).count();
    // Whatever still waits dies with its node before what it refers to.
    clients_.Kill();
    server_.Kill();
    worker_.Kill();
    frontend_.reset();
    link_.reset();
    engine_loop_.reset();
    return std::move(result_);
  }

  SimEngine engine_;
  SimResult result_;
  rt::SimWorld world_;
  rt::Random random_;
  rt::SimNode& server_;
  rt::SimNode& worker_;
  rt::SimNode& clients_;
  engine::Engine* raw_engine_ = nullptr;
  std::optional<engine::EngineLoop> engine_loop_;
  std::optional<worker::LocalLink> link_;
  std::optional<frontend::Frontend> frontend_;
  std::vector<Job> jobs_;
  std::size_t open_clients_ = 0;
  bool draining_ = false;
  bool quiet_ = false;
};

}  // namespace

Result<SimEngine> MakeMockEngine(std::uint64_t seed) {
  MockSetup setup = DrawMockSetup(seed);
  SimEngine out;
  PX_TRY(out.engine,
         engine::Engine::Create(setup.options, std::make_unique<engine::MockExecutor>(setup.mock)));
  out.vocab_size = setup.mock.limits.vocab_size;
  out.eos_token_ids = {2};
  out.expect = MockExpectation(setup.mock.limits);
  return out;
}

SimEngine MakeModelEngine(std::unique_ptr<engine::Engine> engine,
                          std::shared_ptr<engine::Engine> lonely,
                          std::vector<TokenId> eos_token_ids) {
  SimEngine out;
  out.vocab_size = engine->card().vocab_size;
  out.engine = std::move(engine);
  out.eos_token_ids = std::move(eos_token_ids);
  out.expect = [lonely = std::move(lonely), last_id = std::uint64_t{0}](
                   const wire::GenerateRequest& request, std::uint32_t choice) mutable {
    wire::GenerateRequest alone = request;
    alone.id = RequestId{++last_id};
    Expected expected;
    if (!lonely->Submit(std::move(alone), rt::Time{})) {
      return expected;
    }
    std::vector<wire::TokenFrame> frames;
    while (lonely->has_work()) {
      lonely->Step(rt::Time{}, frames);
    }
    for (const wire::TokenFrame& frame : frames) {
      if (frame.choice == choice) {
        expected.tokens.insert(expected.tokens.end(), frame.tokens.begin(), frame.tokens.end());
        expected.finish = frame.finish.value_or(expected.finish);
      }
    }
    return expected;
  };
  return out;
}

SimResult RunServerSim(std::uint64_t seed, SimEngine engine) {
  return Simulation(seed, std::move(engine)).Run();
}

}  // namespace pixii::sim
