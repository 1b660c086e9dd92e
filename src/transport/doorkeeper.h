// Lets peers in: listens, bounds how many strangers may try at a time and how long, and gives on
// the connections whose other side has proved to have the cluster key.
//
// Thread: the agent's loop. Private to the folder.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "rt/function.h"
#include "rt/net.h"
#include "rt/sync.h"
#include "transport/cluster_key.h"
#include "transport/handshake.h"
#include "transport/link.h"

namespace pixii::transport {

inline constexpr rt::Duration kHandshakeTimeMax = std::chrono::seconds(2);

struct DoorkeeperOptions {
  std::string_view channel;  // of the handshake
  bool checksums = false;    // wanted for payloads
  std::uint32_t connections_max = 0;
  std::uint32_t strangers_max = 0;  // in a handshake at a time
};

class Doorkeeper final {
 public:
  /// Whether who is at the other end may try at all.
  using Admit = rt::Function<bool(rt::Stream& stream)>;
  /// Who is let in. False: it cannot be served, and nobody calls Left for it.
  using Welcome = rt::Function<bool(std::unique_ptr<rt::Stream> stream, const Session& session)>;

  /// All references outlive it.
  Doorkeeper(AgentContext& context, const ClusterKey& key, const DoorkeeperOptions& options)
      : context_(context), key_(key), options_(options) {}

  Doorkeeper(const Doorkeeper&) = delete;
  Doorkeeper& operator=(const Doorkeeper&) = delete;

  /// Errors: those of listening.
  Result<void> Open(rt::Net& net, const rt::Address& address, Admit admit, Welcome welcome);

  /// Nobody comes any more.
  void Close();

  /// One that was let in is gone.
  void Left();

  rt::Address address() const { return listener_->address(); }

 private:
  rt::Task<void> Accept();
  rt::Task<void> Shake(std::unique_ptr<rt::Stream> stream);

  void Refuse() { context_.counters.strangers_refused.fetch_add(1, std::memory_order_relaxed); }

  AgentContext& context_;
  const ClusterKey& key_;
  DoorkeeperOptions options_;
  Admit admit_;
  Welcome welcome_;
  std::unique_ptr<rt::Listener> listener_;
  std::uint32_t strangers_ = 0;
  std::uint32_t inside_ = 0;
  rt::SpawnedTasks tasks_;
};

}  // namespace pixii::transport
