// A client of the instances of one endpoint: a thread with a loop, discovery and a connection to
// each of them. Who is asked is its caller's choice, instance by instance; nothing is asked twice.
//
// Thread: made, asked and destroyed on any one thread, which never waits for the loop but in Start
// and Join; its streams may be waited for on others.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "base/result.h"
#include "control/discovery.h"
#include "control/remote_link.h"
#include "host_thread.h"
#include "rt/thread.h"
#include "streams.h"

namespace pixii::python {

struct ClientOptions {
  std::vector<std::string> arguments;  // flags of `pixii router`: cluster, TLS, log
  std::string ns;
  std::string component;
  std::string endpoint;
};

/// Whom a request goes to.
enum class Pick : std::uint8_t { kRoundRobin, kRandom, kDirect };

class ClientHost final {
 public:
  explicit ClientHost(ClientOptions options) : options_(std::move(options)) {}

  ClientHost(const ClientHost&) = delete;
  ClientHost& operator=(const ClientHost&) = delete;
  /// What runs is cancelled.
  ~ClientHost();

  /// Errors: those of the flags and of discovery.
  Result<void> Start();

  /// Those that can be asked now, in order.
  std::vector<std::uint64_t> instances();

  /// Of any of them; nothing: there is none.
  std::optional<wire::ModelCard> card();

  /// `instance`: of kDirect. The stream's first piece may be its end: kUnavailable if there is
  /// nobody to ask, and whatever the instance refuses with.
  StreamKey Generate(wire::GenerateRequest request, Pick pick, std::uint64_t instance,
                     std::function<void()> wake);

  /// Nobody wants more of it.
  void Cancel(StreamKey key);

  /// Who waits for one holds them.
  std::shared_ptr<Streams> streams() { return streams_; }

  std::uint64_t random();

 private:
  struct Peer {
    control::Instance instance;
    std::unique_ptr<control::RemoteLink> link;
    bool wanted = true;  // by discovery
  };

  struct Flight {
    RequestId id{};
    control::InstanceId instance{};
  };

  Result<void> Open();
  void Close();
  void OnChanges(const std::vector<control::MembershipChange>& changes);
  void SetPeer(const control::Instance& instance);
  void Tell();
  void Prune();
  Peer* Choose(Pick pick, std::uint64_t instance);
  void Send(StreamKey key, wire::GenerateRequest request, Pick pick, std::uint64_t instance);

  ClientOptions options_;
  apps::RouterProcessFlags flags_;
  std::shared_ptr<Streams> streams_ = std::make_shared<Streams>();
  std::optional<apps::ProcessUnit> process_;
  std::unique_ptr<rt::Net> tls_net_;
  std::unique_ptr<control::Discovery> discovery_;
  std::unique_ptr<control::InstanceWatch> watch_;
  std::map<control::InstanceId, Peer> peers_;
  std::unordered_map<StreamKey, Flight> flights_;
  std::uint64_t last_id_ = 0;
  std::uint64_t turn_ = 0;
  bool pruning_ = false;
  rt::Mutex mutex_;
  std::vector<std::uint64_t> ready_ PX_GUARDED_BY(mutex_);
  std::optional<wire::ModelCard> card_ PX_GUARDED_BY(mutex_);
  rt::Random random_ PX_GUARDED_BY(mutex_) = rt::Random::FromSystem();
  HostThread thread_;
};

}  // namespace pixii::python
