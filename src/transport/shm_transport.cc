#include "transport/shm_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "rt/file.h"
#include "rt/memory_file.h"
#include "rt/socket_parts.h"
#include "rt/thread.h"
#include "transport/doorkeeper.h"
#include "transport/link_list.h"
#include "transport/shm_connection.h"
#include "transport/shm_folder.h"
#include "transport/shm_link.h"
#include "transport/transport_factory.h"

namespace pixii::transport {

namespace {

/// Names this boot of this machine: others' memory cannot be ours.
std::string BootId() {
  constexpr std::uint64_t kBytesMax = 64;
  Result<std::string> id = rt::ReadFile("/proc/sys/kernel/random/boot_id", kBytesMax);
  if (!id) {
    return {};
  }
  while (!id->empty() && id->back() == '\n') {
    id->pop_back();
  }
  return std::move(*id);
}

class ShmTransport final : public Transport {
 public:
  ShmTransport(AgentContext& context, rt::Net& net, ClusterKey key, ShmOptions options)
      : context_(context),
        net_(net),
        key_(key),
        options_(std::move(options)),
        prefix_(fmt::format("{}/", BootId())),
        door_(context_, key_,
              {.channel = kShmChannel,
               .checksums = false,
               .connections_max = options_.connections_max,
               .strangers_max = options_.strangers_max}) {}

  Result<void> Begin() {
    if (options_.folder.size() > kShmFolderBytesMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("the folder for sockets has a path of {} bytes; at most {}: {}",
                              options_.folder.size(), kShmFolderBytesMax, options_.folder),
                  "folder");
    }
    SweepShmSockets(options_.folder);
    const std::string path = ShmSocketPath(options_.folder, context_.id);
    PX_TRY(hold_, ShmSocketHold::Take(path));
    return door_.Open(
        net_, {.host = "unix:" + path, .port = 0},
        [](rt::Stream& stream) {
          const Result<rt::PeerCredentials> peer = rt::PartsOf(stream)->credentials();
          return peer && peer->user == rt::OwnUser();
        },
        [this](std::unique_ptr<rt::Stream> stream, const Session& session) {
          return Serve(std::move(stream), session);
        });
  }

  ~ShmTransport() override {
    door_.Close();
    {
      rt::MutexLock lock(mutex_);
      served_.clear();
    }
    links_.ForEach([](ShmLink& link) { link.Shut(); });
    hold_.Release();
  }

  std::string_view name() const override { return "shm"; }

  std::string address() const override { return prefix_ + door_.address().ToString(); }

  bool Fits(std::string_view address) const override { return PathOf(address).has_value(); }

  std::shared_ptr<Link> Connect(std::string_view address, AgentId peer) override {
    const std::optional<std::string> path = PathOf(address);
    const std::shared_ptr<ShmLink> link =
        OpenShmLink(context_, net_, key_, {.host = "unix:" + path.value_or(""), .port = 0}, peer);
    links_.Add(link);
    return link;
  }

  bool TakeNotification(Notification& out) override {
    rt::MutexLock lock(mutex_);
    for (const std::unique_ptr<ShmConnection>& each : served_) {
      if (each->broken()) {
        continue;
      }
      if (each->Take(out)) {
        return true;
      }
      if (each->broken()) {
        EndSoon(each->number);
      }
    }
    return false;
  }

  void Forget(RegionKey region) override {
    rt::MutexLock lock(mutex_);
    for (const std::unique_ptr<ShmConnection>& each : served_) {
      each->Forget(region);
    }
  }

 private:
  /// Of an address of this host; nothing for others.
  std::optional<std::string> PathOf(std::string_view address) const {
    constexpr std::string_view kUnix = "unix:";
    if (!address.starts_with(prefix_)) {
      return std::nullopt;
    }
    address.remove_prefix(prefix_.size());
    if (!address.starts_with(kUnix)) {
      return std::nullopt;
    }
    return std::string(address.substr(kUnix.size()));
  }

  bool Serve(std::unique_ptr<rt::Stream> stream, const Session& session) {
    Result<rt::MemoryFile> block =
        rt::MemoryFile::Create(sizeof(ShmBlock), rt::Sharing::kOthersWrite);
    if (!block) {
      return false;
    }
    auto connection = std::make_unique<ShmConnection>(
        context_, std::move(stream), session.peer,
        std::make_shared<const rt::MemoryFile>(std::move(*block)), options_.polled, ++last_number_);
    ShmConnection& running = *connection;
    {
      rt::MutexLock lock(mutex_);
      served_.push_back(std::move(connection));
    }
    running.Run(
        [this] {
          Collect();
          context_.Wake();
        },
        [this](ShmConnection& over) { EndSoon(over.number); });
    return true;
  }

  /// Also where nobody polls for long: rings are short.
  void Collect() {
    rt::MutexLock lock(mutex_);
    for (const std::unique_ptr<ShmConnection>& each : served_) {
      if (!each->broken()) {
        each->Collect();
      }
      if (each->broken()) {
        EndSoon(each->number);
      }
    }
  }

  /// Any thread.
  void EndSoon(std::uint64_t number) {
    context_.loop.Post([this, alive = std::weak_ptr<bool>(alive_), number] {
      if (!alive.expired()) {
        End(number);
      }
    });
  }

  /// Takes what it said last and destroys it.
  void End(std::uint64_t number) {
    std::unique_ptr<ShmConnection> ended;
    {
      rt::MutexLock lock(mutex_);
      const auto found = std::ranges::find_if(
          served_, [number](const auto& each) { return each->number == number; });
      if (found == served_.end()) {
        return;
      }
      ended = std::move(*found);
      served_.erase(found);
      Notification last;
      while (!ended->broken() && ended->Take(last)) {
        context_.Notified(last.from, last.bytes);
      }
    }
    door_.Left();
    context_.Wake();
  }

  AgentContext& context_;
  rt::Net& net_;
  ClusterKey key_;
  ShmOptions options_;
  std::string prefix_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  ShmSocketHold hold_;
  Doorkeeper door_;
  std::uint64_t last_number_ = 0;
  mutable rt::Mutex mutex_;
  std::vector<std::unique_ptr<ShmConnection>> served_ PX_GUARDED_BY(mutex_);
  LinkList<ShmLink> links_;
};

}  // namespace

TransportFactory MakeShmTransport(rt::Net& net, ClusterKey key, ShmOptions options) {
  return FactoryOf<ShmTransport>(net, std::move(key), std::move(options));
}

}  // namespace pixii::transport
