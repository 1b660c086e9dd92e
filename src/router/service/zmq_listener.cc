#include "router/service/zmq_listener.h"

#include <utility>

#include "control/zmq_kv_source.h"

namespace pixii::router {

namespace {

class ZmqListener final : public KvListener {
 public:
  ZmqListener(rt::Loop& loop, rt::Net& net, control::ZmqKvSourceOptions options,
              KvEventsHandler on_events)
      : source_(loop, net, std::move(options), std::move(on_events)) {}

  Status status() const override {
    return source_.connected() ? Status::kActive : Status::kPending;
  }

  std::string last_error() const override { return source_.trouble(); }

 private:
  control::ZmqKvSource source_;
};

}  // namespace

Result<std::unique_ptr<KvListener>> ListenToZmq(rt::Loop& loop, rt::Net& net,
                                                const KvListenerSpec& spec,
                                                KvEventsHandler on_events) {
  control::ZmqKvSourceOptions options;
  PX_TRY(options.events, control::ParseZmqEndpoint(spec.endpoint));
  if (!spec.replay_endpoint.empty()) {
    PX_TRY(options.replay, control::ParseZmqEndpoint(spec.replay_endpoint));
  }
  options.stream.rank = spec.rank;
  options.stream.translator.block_tokens = spec.block_tokens;
  return std::make_unique<ZmqListener>(loop, net, std::move(options), std::move(on_events));
}

}  // namespace pixii::router
