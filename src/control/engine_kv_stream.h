// The KV events of one publisher in order: gaps are seen and asked for, a publisher that began anew
// is told from one that repeats itself.
//
// Thread: a value; decides, does nothing. docs/kv_events_for_engines.md
// What cannot be had any more makes void what was told before: routers then know less than the
// engine has, never more.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/engine_kv_translator.h"
#include "wire/messages/kv_event.h"
#include "wire/zmq_kv_event.h"

namespace pixii::control {

class EngineKvStream final {
 public:
  struct Options {
    std::uint32_t rank = 0;  // of batches that name none
    bool has_replay = false;
    std::size_t waiting_bytes_max = 16U << 20;  // of batches that came during a replay
    wire::EngineKvTranslator::Options translator = {};
  };

  struct Counters {
    std::uint64_t batches = 0;   // that were taken
    std::uint64_t repeated = 0;  // that were known
    std::uint64_t broken = 0;    // that could not be read
    std::uint64_t gaps = 0;      // that were seen
    std::uint64_t resets = 0;    // times that everything was made void
  };

  explicit EngineKvStream(Options options) : options_(options), translator_(options.translator) {}

  /// There is a connection, the first or another one, or nothing came for long: asks whether
  /// anything was missed.
  void Check();

  /// A batch, as it came.
  void OnBatch(std::uint64_t sequence, std::string_view payload);

  /// What to ask the publisher for: everything from this sequence on. It is being asked from then
  /// on, until OnReplayEnd.
  std::optional<std::uint64_t> TakeReplayWish();

  /// What was asked for last is of no use any more.
  bool wants_replay() const { return wish_.has_value(); }

  void OnReplayed(std::uint64_t sequence, std::string_view payload);

  /// `complete`: the publisher said that this is all. If it cannot be asked, what came meanwhile
  /// counts.
  void OnReplayEnd(bool complete);

  /// What routers are to hear, in order. Ids are 0.
  std::vector<wire::KvEvent> TakeEvents();

  const Counters& counters() const { return counters_; }

  const wire::EngineKvTranslator::Counters& translated() const { return translator_.counters(); }

 private:
  void AskFrom(std::uint64_t sequence);
  void Apply(std::uint64_t sequence, std::string_view payload);
  void Reset();
  void Wait(std::uint64_t sequence, std::string_view payload);

  Options options_;
  Counters counters_;
  wire::EngineKvTranslator translator_;
  std::vector<wire::KvEvent> events_;
  std::map<std::uint32_t, bool> ranks_;  // that were heard of
  std::optional<std::uint64_t> next_;    // sequence; nothing: none was heard
  std::uint64_t last_payload_ = 0;       // hash of the batch before `next_`
  double last_seconds_ = 0;              // of it
  std::optional<std::uint64_t> wish_;
  bool replaying_ = false;
  bool replay_began_ = false;                     // its first batch has come
  std::map<std::uint64_t, std::string> waiting_;  // by sequence
  std::size_t waiting_bytes_ = 0;
};

}  // namespace pixii::control
