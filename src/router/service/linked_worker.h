// A worker at the other end of a connection, and what a router hears of it by that: what it is, how
// busy each of its ranks is, what it has cached.
//
// Thread: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "control/event_plane.h"
#include "control/instance.h"
#include "control/remote_link.h"
#include "obs/log.h"
#include "router/router.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::router {

/// Of workers. All outlive the worker.
struct LinkedWorkerParts {
  rt::Loop& loop;
  rt::Net& net;
  Router& router;
  control::MuxClientOptions client = {};  // but for the address
  /// Its link's state, card or load changed: call Update. May not destroy the worker.
  std::function<void(InstanceId instance)> on_change = {};
  /// Hears whether there is a connection. May not destroy the worker.
  std::function<void(InstanceId instance, bool connected)> on_connection = {};
  /// Hears that it said on its connection that it ends. Likewise.
  std::function<void(InstanceId instance)> on_going_away = {};
  control::EventPlane* plane = nullptr;  // where workers publish, too; null: nowhere
  obs::Log* log = nullptr;  // hears whether requests can be sent to it; null: nobody does
};

class LinkedWorker final {
 public:
  explicit LinkedWorker(LinkedWorkerParts parts) : parts_(std::move(parts)) {}

  LinkedWorker(const LinkedWorker&) = delete;
  LinkedWorker& operator=(const LinkedWorker&) = delete;

  /// It came, or discovery tells something else of it; Update tells the router. Another address is
  /// another connection: the old one is given back for what still runs there. Errors:
  /// kInvalidArgument for an address that is none; then nothing changed.
  Result<std::unique_ptr<control::RemoteLink>> SetInstance(const control::Instance& instance);

  struct Change {
    bool came = false;  // the router has it now, and knows nothing yet of what it holds
    bool left = false;  // the router has it no more
    bool card = false;  // it said anew what it is
  };

  /// Brings the router in line with the connection. Pre: SetInstance succeeded. `wanted`: it is to
  /// have the worker if that is here.
  Change Update(bool wanted);

  /// With the card as the worker itself said it last to the router.
  const control::Instance& instance() const { return instance_; }

  /// Pre: SetInstance succeeded.
  control::RemoteLink& link() { return *link_; }

  const control::RemoteLink& link() const { return *link_; }

  /// It is at the other end.
  bool connected() const { return connected_; }

  /// The router has it.
  bool routed() const { return routed_; }

 private:
  void LogChange();
  void TellWhatItIs();
  void TellLoads();
  void ListenToCache();

  LinkedWorkerParts parts_;
  control::Instance instance_;
  bool changed_ = false;           // and not what the router was told
  std::uint64_t card_number_ = 0;  // of the card that it was told
  bool connected_ = false;
  bool goes_away_ = false;  // it said so
  bool routed_ = false;
  bool takes_ = false;  // requests can be sent to it, as far as the log was told
  bool no_events_said_ = false;
  std::unique_ptr<control::RemoteLink> link_;
};

}  // namespace pixii::router
