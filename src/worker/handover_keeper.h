// The connectors of a worker's engines as who keeps prompts' blocks.
//
// Thread: one loop, that of the HandoverLink.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kv/handover_connector.h"
#include "rt/loop.h"
#include "worker/handover_link.h"

namespace pixii::worker {

class ConnectorKeeper final : public HandoverKeeper {
 public:
  /// Both outlive it, and what is under way.
  ConnectorKeeper(rt::Loop& loop, kv::HandoverConnector& connector)
      : loop_(loop), connector_(connector) {}

  void WatchEarly(RequestId request, EarlyNews news) override {
    connector_.WatchEarly(request, [loop = &loop_, news = std::move(news)](std::string record) {
      loop->Post([news, record = std::move(record)] { news(record); });
    });
  }

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

/// Those of data-parallel ranks as one: a request is at one of them, nobody need know at which.
class RanksKeeper final : public HandoverKeeper {
 public:
  /// At least one.
  explicit RanksKeeper(std::vector<std::unique_ptr<HandoverKeeper>> ranks)
      : ranks_(std::move(ranks)) {}

  void WatchEarly(RequestId request, EarlyNews news) override {
    for (const auto& rank : ranks_) {
      rank->WatchEarly(request, news);
    }
  }

  void Watch(RequestId request, News news) override {
    const auto keeping = std::make_shared<std::size_t>(ranks_.size());
    for (const auto& rank : ranks_) {
      rank->Watch(request, [keeping, news](std::optional<std::string> record) {
        if (record || --*keeping == 0) {
          news(std::move(record));
        }
      });
    }
  }

  void Forget(RequestId request) override {
    for (const auto& rank : ranks_) {
      rank->Forget(request);
    }
  }

 private:
  std::vector<std::unique_ptr<HandoverKeeper>> ranks_;
};

}  // namespace pixii::worker
