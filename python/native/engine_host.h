// An engine with its model on threads of this process, for a caller of another language.
//
// Thread: made, asked and destroyed on any one thread, which never waits for the loop but in Start
// and Join; its streams may be waited for on others. Processors are called on the engine's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "apps/engine_unit.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "base/result.h"
#include "frontend/served_model.h"
#include "host_thread.h"
#include "streams.h"

namespace pixii::python {

/// Makes a processor of the engine's for each data-parallel rank; none: there is none.
using ProcessorMaker = std::function<std::unique_ptr<engine::LogitsProcessor>()>;

class EngineHost final {
 public:
  /// `arguments`: flags of `pixii serve`.
  EngineHost(std::string model, std::vector<std::string> arguments, ProcessorMaker processor)
      : model_(std::move(model)),
        arguments_(std::move(arguments)),
        processor_(std::move(processor)) {}

  EngineHost(const EngineHost&) = delete;
  EngineHost& operator=(const EngineHost&) = delete;
  /// What runs ends with kShuttingDown.
  ~EngineHost();

  /// Until the model is loaded. Errors: those of flags and checkpoint.
  Result<void> Start();

  StreamKey Generate(wire::GenerateRequest request, std::function<void()> wake);

  /// Nobody wants more of it.
  void Cancel(StreamKey key);

  /// Who waits for one holds them.
  std::shared_ptr<Streams> streams() { return streams_; }

  // What stands below is there from Start on and does not change.

  const wire::ModelCard& card() const { return card_; }

  const frontend::ServedModel& served() const { return served_; }

  std::uint64_t random();

 private:
  struct Flight {
    RequestId id{};
    std::unique_ptr<frontend::TextDecoder> decoder;  // null: no tokenizer
  };

  Result<void> Open();
  void Close();
  void Send(StreamKey key, wire::GenerateRequest request);
  void OnFrame(StreamKey key, wire::TokenFrame frame);

  std::string model_;
  std::vector<std::string> arguments_;
  ProcessorMaker processor_;
  apps::ServeFlags flags_;
  apps::EngineFlags engine_flags_;
  wire::ModelCard card_;
  frontend::ServedModel served_;
  std::shared_ptr<Streams> streams_ = std::make_shared<Streams>();
  std::optional<apps::ProcessUnit> process_;
  std::unique_ptr<apps::EngineUnit> unit_;
  std::unordered_map<StreamKey, Flight> flights_;
  std::uint64_t last_id_ = 0;
  rt::Mutex mutex_;
  rt::Random random_ PX_GUARDED_BY(mutex_) = rt::Random::FromSystem();
  HostThread thread_;
};

}  // namespace pixii::python
