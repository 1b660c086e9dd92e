// What a fleet of engines can carry: the formulas of Dynamo's first planner on means, and a
// queueing model on distributions.
//
// Thread: functions and values. Pure. docs/planner.md
// Source: spec/dynamo-core.md F.1, F.2; M/G/c waiting as Allen and Cunneen approximate it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace pixii::control {

/// An engine as a profile has it: times of its steps, and its limits.
struct EngineModel {
  std::function<double(double tokens)> prefill_ms;             // of so many new tokens in a step
  std::function<double(double kv, double context)> decode_ms;  // of a step; context: of a sequence
  double kv_tokens = 1 << 20;                                  // that its cache holds
  double sequences_max = 256;                                  // of a step
  double batch_tokens_max = 8192;                              // new ones, of a step
};

/// Tokens of a request.
struct RequestSize {
  double input = 0;
  double output = 0;
};

struct LatencyGoal {
  double ttft_ms = 500;
  double itl_ms = 50;  // mean of a request
};

/// Which part of the work a pool of engines does.
enum class PoolRole : std::uint8_t { kBoth, kPrefill, kDecode };

struct PoolLoad {
  PoolRole role = PoolRole::kBoth;
  double rate = 0;                          // requests per second of the whole pool
  std::span<const RequestSize> sizes = {};  // a sample of what comes; empty counts as none coming
  double dispersion = 1;  // of counts: variance over mean; 1: arrivals know nothing of each other
};

struct PoolOutlook {
  double attainment = 1;  // share of requests that keep the goal, 0 .. 1
  double ttft_ms = 0;     // mean; a large number if the queue grows without end
  double itl_ms = 0;
  double busy = 0;  // share of what the pool can carry; 1 and more: it grows behind
};

/// Pre: workers > 0.
PoolOutlook Predict(const EngineModel& engine, const PoolLoad& load, const LatencyGoal& goal,
                    double workers);

/// F.2.
struct FormulaInput {
  double requests = 0;            // of the next interval
  double input_tokens = 0;        // mean, of each
  double output_tokens = 0;       // mean, of each
  double interval_seconds = 0;    // > 0
  double prefill_throughput = 0;  // tokens/s of one GPU at this input length
  double decode_throughput = 0;   // tokens/s of one GPU at the corrected goal
  double prefill_gpus = 1;        // of one engine
  double decode_gpus = 1;
  double prefill_correction = 1;  // actual over expected TTFT
};

/// At least 0; a throughput of 0 with requests coming gives the largest count.
std::uint32_t PrefillReplicas(const FormulaInput& in);
std::uint32_t DecodeReplicas(const FormulaInput& in);
inline constexpr std::uint32_t kReplicasUnbounded = 1U << 20;

/// The goal that decode engines must be looked up with: itl' = goal / (actual / expected).
double CorrectedItlGoal(double goal_ms, double actual_ms, double expected_ms);

/// Tokens per second of one engine at the largest batch whose step keeps `itl_ms` at this context;
/// 0 if not even one sequence does.
double DecodeThroughput(const EngineModel& engine, double context, double itl_ms);
/// Tokens per second of prompts of this length, one after the other.
double PrefillThroughput(const EngineModel& engine, double input_tokens);
/// Of one prompt alone, in chunks.
double PromptMs(const EngineModel& engine, double input_tokens);

/// A rule of F.1 on estimates of all engines of a pool: +1 if all are above the goal, -1 if all are
/// below `sensitivity` of it, else 0. An aggregated pool goes up if either of both is above, and
/// down if both are below.
struct EngineEstimate {
  double ttft_ms = 0;
  double itl_ms = 0;
};

int LoadStep(PoolRole role, std::span<const EngineEstimate> engines, const LatencyGoal& goal,
             double sensitivity);

/// Wall time of steps by their tokens, as they are seen: a straight line, or the mean where all
/// have equal tokens.
class StepLine final {
 public:
  /// Steps of no time are heartbeats and do not count.
  void Add(double tokens, double wall_ms, std::size_t samples_max);

  std::size_t samples() const { return points_.size(); }

  /// Never below 0.
  double WallMs(double tokens) const;
  /// TTFT of a prompt behind a queue: all of it in chunks.
  double QueueMs(double queued_tokens, double chunk_tokens) const;

 private:
  struct Point {
    double tokens;
    double wall_ms;
  };

  std::vector<Point> points_;
  std::size_t next_ = 0;
};

}  // namespace pixii::control
