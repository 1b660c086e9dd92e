// What a frontend knows of its cluster at one moment, as GET /v1/cluster shows it.
//
// Thread: values and a pure function.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/instance.h"
#include "wire/messages/generate.h"
#include "wire/messages/worker.h"

namespace pixii::frontend {

/// A worker as a frontend sees it.
struct ShownInstance {
  control::Instance instance;
  std::string_view state = {};                // available, excluded, …; empty: nobody knows
  std::string_view reason = {};               // for it, one word; empty: there is none
  std::string detail = {};                    // in a sentence
  std::optional<wire::WorkerLoad> load = {};  // that it last told; nothing: it was not asked
};

/// A model that requests may name.
struct ShownModel {
  std::vector<std::string> names;  // the first is its own
  std::string_view task;           // generate, embed, …
  bool ready = false;
  std::string message;  // a sentence
  bool routed = false;  // one of several workers is chosen for each request
  wire::ModelCard card;
  wire::WorkerLoad load;                // of all its workers
  std::vector<wire::WorkerLoad> ranks;  // of its worker, if that is in this process
};

struct ClusterView {
  bool draining = false;
  bool ready = false;
  std::string message;  // a sentence
  std::uint64_t requests_in_flight = 0;
  std::uint64_t connections = 0;
  std::vector<ShownModel> models = {};
  std::vector<ShownInstance> workers = {};      // of other processes
  std::optional<std::string> media_model = {};  // one that makes videos and pictures
};

/// docs/web.md
std::string ClusterJson(const ClusterView& view);

}  // namespace pixii::frontend
