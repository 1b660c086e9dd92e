// A client of the simulation: one request over HTTP with a behaviour, and a judgement of the
// answer.
//
// Thread: its loop.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rt/net.h"
#include "wire/messages/generate.h"

namespace pixii::sim {

enum class Behaviour : std::uint8_t {
  kPatient,       // reads everything as it comes
  kSlowReader,    // waits between reads
  kHangsUp,       // closes after a while, wherever the answer is
  kHangsUpEarly,  // closes right after sending
};

struct ClientPlan {
  wire::GenerateRequest request;                        // what the frontend should make of it
  std::vector<std::vector<TokenId>> more_prompts = {};  // one more request like it for each
  bool stream = false;
  Behaviour behaviour = Behaviour::kPatient;
  rt::Duration pause{};          // kSlowReader: between reads
  rt::Duration hang_up_after{};  // kHangsUp
};

enum class Outcome : std::uint8_t {
  kPending,
  kWhole,
  kRefused,  // 503 or 529 with a time to come back, or no connection
  kGaveUp,
  kFailed,  // a typed error in place of an answer or of its end
  kBroken,  // anything else
};

struct ClientReport {
  Outcome outcome = Outcome::kPending;
  int status = 0;
  std::string detail;                        // kBroken, kFailed: what was wrong
  std::string error_code;                    // kFailed
  bool transport_broke = false;              // kBroken: the connection, not what it said
  std::vector<std::vector<TokenId>> tokens;  // [prompt * n + choice]
  std::vector<std::string> finish_reasons;   // likewise; empty: not ended
};

/// Sends the request and reads the answer into `report`, which outlives the task; its outcome is
/// set last.
rt::Task<void> RunClient(rt::Loop& loop, rt::Net& net, rt::Address server, ClientPlan plan,
                         ClientReport& report);

}  // namespace pixii::sim
