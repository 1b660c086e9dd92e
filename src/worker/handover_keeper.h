// The connector of a worker's engine as who keeps prompts' blocks.
//
// Thread: one loop, that of the HandoverLink.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "kv/handover_connector.h"
#include "rt/loop.h"
#include "worker/handover_link.h"

namespace pixii::worker {

class ConnectorKeeper final : public HandoverKeeper {
 public:
  /// Both outlive it, and what is under way.
  ConnectorKeeper(rt::Loop& loop, kv::HandoverConnector& connector)
      : loop_(loop), connector_(connector) {}

  void Watch(RequestId request, News news) override {
    connector_.Watch(
        request, [loop = &loop_, news = std::move(news)](const std::optional<std::string>& record) {
          loop->Post([news, record] { news(record); });
        });
  }

  void Forget(RequestId request) override { connector_.Forget(request); }

 private:
  rt::Loop& loop_;
  kv::HandoverConnector& connector_;
};

}  // namespace pixii::worker
