#include "router/service/mux_listener.h"

#include <fmt/format.h>

#include <utility>

#include "control/remote_link.h"

namespace pixii::router {

namespace {

class MuxListener final : public KvListener {
 public:
  MuxListener(rt::Loop& loop, rt::Net& net, control::MuxClientOptions client,
              wire::ModelCard expected, KvEventsHandler on_events)
      : link_(loop, net, std::move(client), std::move(expected), [] {}) {
    (void)link_.WatchKvEvents(std::move(on_events));  // a remote link takes every handler
  }

  Status status() const override {
    return link_.state() == control::RemoteLink::State::kHere ? Status::kActive : Status::kPending;
  }

  std::string last_error() const override {
    return status() == Status::kActive ? std::string() : link_.trouble();
  }

 private:
  control::RemoteLink link_;
};

}  // namespace

Result<std::unique_ptr<KvListener>> ListenToMux(rt::Loop& loop, rt::Net& net,
                                                control::MuxClientOptions client,
                                                const KvListenerSpec& spec,
                                                KvEventsHandler on_events) {
  Result<rt::Address> address =
      rt::ParseAddress(std::string_view(spec.endpoint).substr(kMuxScheme.size()));
  if (!address) {
    return Fail(Code::kInvalidArgument,
                fmt::format("endpoint {}: {}", spec.endpoint, address.error().detail()),
                "endpoint");
  }
  client.address = std::move(*address);
  wire::ModelCard expected;
  expected.block_tokens = spec.block_tokens;
  return std::make_unique<MuxListener>(loop, net, std::move(client), std::move(expected),
                                       std::move(on_events));
}

}  // namespace pixii::router
