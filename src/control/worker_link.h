// How a frontend reaches a worker, wherever it is: a function call, a socket, the simulator.
//
// Thread: every method is called on the frontend's loop, and handlers run on that loop.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "rt/time.h"
#include "wire/messages/adapters.h"
#include "wire/messages/generate.h"
#include "wire/messages/worker.h"

namespace pixii::control {

using wire::MemoryTags;
using wire::WorkerLoad;
using wire::WorkerState;

class WorkerLink {
 public:
  using FrameHandler = std::function<void(wire::TokenFrame)>;

  virtual ~WorkerLink() = default;

  /// What the worker is; `adapters` changes between two turns of the loop.
  virtual const wire::ModelCard& card() const = 0;

  /// Sends `request`. On success `on_frame` is called with the frames of every choice until each
  /// has ended, exactly once; also if the worker dies (kError, kDisconnected). Never called after
  /// the last end. Errors: kShuttingDown, kResourceExhausted (queue bound), kUnavailable; then
  /// on_frame is never called.
  virtual Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) = 0;

  /// Asks for an early end; the choice's last frame (kCancelled, or what ended it first) still
  /// comes.
  virtual void Cancel(const wire::CancelRequest& cancel) = 0;

  using MemoryHandler = std::function<void(Result<void>)>;

  /// Puts the worker to sleep: what runs may end within `patience`, nothing new is taken
  /// (kUnavailable). Then nothing has happened: kDeadlineExceeded. `on_done` is called once, unless
  /// the link goes first. Errors: kUnsupported, kUnavailable.
  virtual void ReleaseMemory(const MemoryTags& /*tags*/, rt::Duration /*patience*/,
                             MemoryHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker keeps its memory"));
  }

  /// Wakes it up. Errors: those of loading; it sleeps on then.
  virtual void ResumeMemory(const MemoryTags& /*tags*/, MemoryHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker keeps its memory"));
  }

  /// Nobody finds what the prefix cache holds any more; what runs goes on. `on_done` is called
  /// once, unless the link goes first. Errors: kUnsupported.
  virtual void ClearCache(MemoryHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker has no cache that could be cleared"));
  }

  /// The last known load.
  virtual WorkerLoad load() const = 0;

  using AdapterHandler = std::function<void(Result<wire::AdapterCard>)>;

  /// Makes an adapter one that requests may name: card().adapters has it when `on_done` is called
  /// with its card. Errors: kUnsupported (this worker loads none), kNotFound, kDataCorrupt,
  /// kInvalidArgument (the folder or the name), kResourceExhausted.
  virtual void LoadAdapter(wire::LoadAdapterRequest /*request*/, AdapterHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker loads no adapters", "lora_name"));
  }

  /// Takes a name back; requests that have the adapter go on with it. `on_done` gets the card it
  /// had. Errors: kUnsupported, kNotFound.
  virtual void UnloadAdapter(std::string /*name*/, AdapterHandler on_done) {
    on_done(Fail(Code::kUnsupported, "this worker loads no adapters", "lora_name"));
  }
};

}  // namespace pixii::control
