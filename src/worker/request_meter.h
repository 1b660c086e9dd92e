// What a worker counts of the requests that frontends send it, from the messages that pass: under
// the names of Dynamo's components and of TensorRT-LLM's engine.
//
// Thread: one loop, the service's. Label values are those of the worker and of closed sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "obs/metrics.h"
#include "rt/time.h"
#include "wire/messages/generate.h"

namespace pixii::worker {

struct RequestMeterOptions {
  std::string ns;
  std::string component;
  std::string endpoint;
  std::string worker;  // its id, hexadecimal
  std::string model;
  std::string mode;  // agg, prefill, decode or encode
};

class RequestMeter final {
 public:
  /// Every series stands at zero from now on. `registry` outlives it.
  RequestMeter(obs::Registry& registry, RequestMeterOptions options);

  RequestMeter(const RequestMeter&) = delete;
  RequestMeter& operator=(const RequestMeter&) = delete;

  /// A message came that should be a request.
  void OnReceived(std::size_t bytes) { request_bytes_.Add(bytes); }

  /// It was none, or nobody took it.
  void OnRefused(const Error& error);

  /// It is about to be given to the engine; frames follow until each of its choices has ended, or
  /// Forget if it is not taken.
  void OnRequest(const wire::GenerateRequest& request, rt::Time now);
  void Forget(RequestId id);

  void OnFrame(const wire::TokenFrame& frame, rt::Time now);

  /// A frame went to the frontend.
  void OnSent(std::size_t bytes) { response_bytes_.Add(bytes); }

  /// Requests that have not ended.
  std::size_t running_count() const { return running_.size(); }

 private:
  struct Running {
    rt::Time came{};
    std::size_t prompt_tokens = 0;
    bool has_pictures = false;
    bool constrained = false;
    rt::Time scheduled = rt::kNever;  // first in a step, as its engine says at its end
    rt::Time first_token = rt::kNever;
    rt::Time last_token = rt::kNever;
    std::uint64_t tokens = 0;
    std::uint32_t cached_tokens = 0;
    std::uint32_t live_choices = 0;
  };

  void End(const Running& running, const wire::TokenFrame& last, rt::Time now);

  obs::Registry& registry_;
  RequestMeterOptions options_;
  std::unordered_map<RequestId, Running> running_;
  obs::Counter& request_bytes_;
  obs::Counter& response_bytes_;
  obs::Histogram& duration_;
  obs::Histogram& first_response_;
  obs::Counter& prompt_tokens_;
  obs::Counter& generation_tokens_;
  obs::Counter& cached_tokens_;
  obs::Counter& completed_;
  obs::Counter& aborted_;
  obs::Counter& with_pictures_;
  obs::Counter& constrained_;
  obs::Histogram& e2e_;
  obs::Histogram& ttft_;
  obs::Histogram& per_token_;
  obs::Histogram& queue_;
  obs::Histogram& prefill_;
  obs::Histogram& decode_;
  obs::Histogram& inference_;
  obs::Histogram& cached_per_request_;
};

}  // namespace pixii::worker
