// The connections over which routers of several processes tell each other their loads.
//
// Thread: one loop. docs/formats/messages.md, method `replica`
// Each process says its own over the connections that it makes itself, and hears the others over
// those that they make. Who reads too slowly misses something, which ReplicaSync finds out.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "control/instance.h"
#include "control/mux_client.h"
#include "router/replica_sync.h"
#include "router/router.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::router {

inline constexpr std::string_view kReplicaMethod = "replica";

struct ReplicaMeshOptions {
  InstanceId self{};  // of this process, as discovery knows it
  ReplicaSyncOptions sync = {};
  control::MuxClientOptions client = {};  // but for the address
  std::size_t queued_bytes_max = 4U
                                 << 20U;  // unread ones of a peer, beyond which it is told nothing
};

class ReplicaMesh final {
 public:
  /// A router of this process among its replicas.
  class Member final {
   public:
    Member(ReplicaMesh& mesh, wire::PoolName pool, Router& router, std::function<void()> on_heard);
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
    ~Member();

    /// What the router's TakeLoadChanges gave.
    void Tell(const std::vector<LoadChange>& changes);

    const ReplicaSync& sync() const { return sync_; }

   private:
    friend class ReplicaMesh;

    void Hear(const wire::ReplicaMessage& message);
    void Pump();
    void OnTime();

    ReplicaMesh& mesh_;
    wire::PoolName pool_;
    Router& router_;
    std::function<void()> on_heard_;
    ReplicaSync sync_;
    rt::Time touch_at_{};
    rt::TimerId timer_ = rt::TimerId::kNone;
  };

  ReplicaMesh(rt::Loop& loop, rt::Net& net, ReplicaMeshOptions options);

  ReplicaMesh(const ReplicaMesh&) = delete;
  ReplicaMesh& operator=(const ReplicaMesh&) = delete;
  ~ReplicaMesh();

  /// `router` has tell_load_changes on and outlives the member, the mesh too. `on_heard`: its loads
  /// changed. One member for a pool.
  std::unique_ptr<Member> Join(wire::PoolName pool, Router& router, std::function<void()> on_heard);

  /// Another process of the mesh, by whatever name the caller gives it. `id`: which it must be;
  /// nothing: any. This one's own id is no peer. Errors: kInvalidArgument naming the address.
  Result<void> SetPeer(const std::string& name, const std::string& address,
                       std::optional<InstanceId> id);
  void RemovePeer(const std::string& name);

  /// A message that a peer sent.
  void OnMessage(std::string_view bytes);

  /// Peers that this process is connected to.
  std::size_t connected_count() const;

 private:
  struct Peer {
    std::string address;
    std::optional<InstanceId> id;
    std::unique_ptr<control::MuxClient> client;
    std::optional<control::MuxClient::CallKey> call;
  };

  void OnState(const std::string& name, bool connected);
  void Send(const wire::ReplicaMessage& message);

  rt::Loop& loop_;
  rt::Net& net_;
  ReplicaMeshOptions options_;
  std::map<std::string, Peer> peers_;
  std::map<std::string, Member*> members_;  // by the pool's name
  std::uint64_t joined_count_ = 0;
};

}  // namespace pixii::router
