// What a worker and its frontends tell each other besides requests and tokens.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "wire/messages/generate.h"

namespace pixii::wire {

enum class WorkerState : std::uint8_t {
  kAwake,
  kDraining,   // takes nothing new; it sleeps, or ends, when what runs has ended
  kAsleep,     // its memory is given back; it takes nothing until it is woken
  kDead,       // of a rank: it failed and takes nothing more; the others of its worker go on
  kUnhealthy,  // its engine does not answer: nothing is to be sent there, what runs is lost
};

/// How busy a worker is, for readiness, metrics, admission and routing.
struct WorkerLoad {
  WorkerState state = WorkerState::kAwake;
  std::uint32_t running = 0;        // sequences in the batch
  std::uint32_t queued = 0;         // sequences waiting
  std::uint32_t blocks_used = 0;    // pinned by running sequences
  std::uint32_t blocks_cached = 0;  // free for others, content still valid
  std::uint32_t blocks_total = 0;
  std::uint64_t steps = 0;  // engine steps so far: readiness watches it grow while work is there
};

/// Parts of a worker's memory.
struct MemoryTags {
  bool kv_cache = false;
  bool weights = false;
};

/// Sent when a connection begins and whenever something changed.
struct WorkerReport {
  std::optional<ModelCard> card;  // nothing: as before
  WorkerLoad load;
  std::vector<WorkerLoad> ranks;  // of each, in order; empty: there is one, `load` is its own
};

/// To give memory back, or to take it again.
struct MemoryRequest {
  MemoryTags tags;
  bool release = false;          // false: take it again
  std::int64_t patience_ns = 0;  // of a release: what runs may end within it
};

struct AdapterName {
  std::string name;
};

/// One of the small files that say how a model's texts are read and written.
struct ModelFile {
  std::string name;  // in its folder, for example tokenizer.json
  std::string content;
};

struct ModelFiles {
  std::vector<ModelFile> files;
};

}  // namespace pixii::wire
