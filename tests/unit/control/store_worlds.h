// Every lease store in a world of its own, for tests that hold for all of them.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "control/etcd_store.h"
#include "control/file_store.h"
#include "control/kube_store.h"
#include "control/lease_store.h"
#include "control/mem_store.h"
#include "rt/child_process.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sim_world.h"
#include "sim/kube_api_server.h"

namespace pixii::control {

using StoreValues = std::map<std::string, std::string>;

/// A real loop and how tests wait on it.
class RealStoreWorld {
 public:
  rt::Loop& loop() { return *loop_; }

  bool RunUntil(const std::function<bool()>& done) {
    const rt::Time give_up = loop_->Now() + std::chrono::seconds(20);
    loop_->Spawn(StopWhen(*loop_, done, give_up));
    loop_->Run();
    return done();
  }

 private:
  static rt::Task<void> StopWhen(rt::Loop& loop, std::function<bool()> done, rt::Time give_up) {
    while (!done() && loop.Now() < give_up) {
      auto pause = loop.SleepFor(std::chrono::milliseconds(1));
      co_await std::move(pause);
    }
    loop.Stop();
  }

  std::unique_ptr<rt::Loop> loop_ = rt::MakeLoop().value();
};

/// Folders of this host; processes are played by stores of one process: locks of files are between
/// open files, not between processes.
class FileStoreWorld : public RealStoreWorld {
 public:
  static std::string SkipReason() { return ""; }

  ~FileStoreWorld() { std::filesystem::remove_all(folder_); }

  const std::string& folder() const { return folder_; }

  std::unique_ptr<LeaseStore> Open() {
    return std::make_unique<FileStore>(
        loop(), FileStoreOptions{.folder = folder_, .lease = {.ttl = std::chrono::seconds(3)}});
  }

  /// Names and contents as they lie there.
  StoreValues Dump() {
    StoreValues all;
    std::error_code gone;
    for (const auto& file : std::filesystem::directory_iterator(folder_ + "/keys", gone)) {
      std::string name = file.path().filename();
      if (file.path().extension() != ".entry") {
        continue;
      }
      name.resize(name.size() - 6);
      std::string key;
      for (std::size_t i = 0; i < name.size(); ++i) {
        if (name[i] == '%') {
          key += static_cast<char>(std::stoi(name.substr(i + 1, 2), nullptr, 16));
          i += 2;
        } else {
          key += name[i] == ',' ? '/' : name[i];
        }
      }
      std::ifstream in(file.path(), std::ios::binary);
      std::string text((std::istreambuf_iterator<char>(in)), {});
      all[key] = text.substr(text.find('\n') + 1);
    }
    return all;
  }

  void Wipe() {
    std::error_code busy;  // files may come while we remove
    while (std::filesystem::remove_all(folder_, busy) > 0 && busy) {
    }
  }

 private:
  static std::string MakeFolder() {
    std::string name = testing::TempDir() + "pixii-store-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    return name;
  }

  std::string folder_ = MakeFolder();
};

/// A real etcd, started and ended with the world.
class EtcdStoreWorld : public RealStoreWorld {
 public:
  static std::string SkipReason() {
    const char* folders = std::getenv("PATH");  // tidy: getenv where etcd would be found
    std::stringstream path(folders == nullptr ? "" : folders);
    for (std::string folder; std::getline(path, folder, ':');) {
      if (::access((folder + "/etcd").c_str(), X_OK) == 0) {
        return "";
      }
    }
    return "etcd is not installed (Debian: etcd-server)";
  }

  EtcdStoreWorld() { Start(); }

  ~EtcdStoreWorld() {
    server_ = {};
    std::filesystem::remove_all(folder_);
  }

  rt::Net& net() { return *net_; }

  rt::Address address() const { return {.host = "127.0.0.1", .port = port_}; }

  std::unique_ptr<LeaseStore> Open() { return Open(std::chrono::seconds(3)); }

  std::unique_ptr<LeaseStore> Open(rt::Duration ttl) {
    return std::make_unique<EtcdStore>(
        loop(), net(), EtcdStoreOptions{.endpoints = {address()}, .lease = {.ttl = ttl}});
  }

  StoreValues Dump() {
    return With<StoreValues>([](EtcdClient& client, rt::Time deadline, StoreValues& values) {
      return DumpTask(client, deadline, values);
    });
  }

  /// Its own keys and leases, asked by a task of the caller on a loop of its own.
  template <class Out>
  Out With(const std::function<rt::Task<void>(EtcdClient&, rt::Time, Out&)>& task) {
    const auto loop = rt::MakeLoop().value();
    const auto net = rt::MakeNet(*loop);
    EtcdClient client(*net, {address()});
    Out out{};
    loop->Spawn(RunThenStop(*loop, task(client, loop->Now() + std::chrono::seconds(2), out)));
    loop->Run();
    return out;
  }

  void Signal(int signal) const { ::kill(pid_, signal); }

  void Kill() {
    ::kill(pid_, SIGKILL);
    server_ = {};
  }

  void Start() {
    const std::string client = "http://127.0.0.1:" + std::to_string(port_);
    const std::string peer = "http://127.0.0.1:" + std::to_string(peer_port_);
    server_ = rt::ChildProcess::Start(
                  {.arguments = {"etcd", "--name", "one", "--data-dir", data(),
                                 "--listen-client-urls", client, "--advertise-client-urls", client,
                                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                                 "--initial-cluster", "one=" + peer, "--heartbeat-interval", "20",
                                 "--election-timeout", "200"},
                   .output = folder_ + "/log"})
                  .value();
    pid_ = NewestChild();
  }

  void Wipe() {
    Kill();
    std::filesystem::remove_all(data());
    Start();
  }

  /// Copies of the data while the server is down.
  void Save() { Copy(data(), folder_ + "/saved"); }

  void Restore() {
    Kill();
    Copy(folder_ + "/saved", data());
    Start();
  }

 private:
  static rt::Task<void> DumpTask(EtcdClient& client, rt::Time deadline, StoreValues& values) {
    auto ranging = client.Range("", deadline);
    Result<EtcdRange> range = co_await std::move(ranging);
    values = range ? std::move(range->values) : StoreValues{};
  }

  static rt::Task<void> RunThenStop(rt::Loop& loop, rt::Task<void> task) {
    co_await std::move(task);
    loop.Stop();
  }

  static std::string MakeFolder() {
    std::string name = testing::TempDir() + "pixii-etcd-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    return name;
  }

  static void Copy(const std::string& from, const std::string& to) {
    std::filesystem::remove_all(to);
    std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
  }

  std::string data() const { return folder_ + "/data"; }

  // etcd cannot be told to pick a port.
  std::uint16_t FreePort() {
    return net_->Listen({.host = "127.0.0.1", .port = 0}, {}).value()->address().port;
  }

  static pid_t NewestChild() {
    std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
    pid_t newest = 0;
    for (pid_t child = 0; children >> child;) {
      newest = child;
    }
    return newest;
  }

  std::string folder_ = MakeFolder();
  std::unique_ptr<rt::Net> net_ = rt::MakeNet(loop());
  std::uint16_t port_ = FreePort();
  std::uint16_t peer_port_ = FreePort();
  rt::ChildProcess server_;
  pid_t pid_ = 0;
};

/// A Kubernetes API server of the tests' own and stores on another node, under virtual time. Who
/// asks may do what docs/formats/discovery.md lists, and no more.
class KubeStoreWorld {
 public:
  static std::string SkipReason() { return ""; }

  static kube::Rules DocumentedRules() {
    return {{{"leases", {"create", "delete", "list", "patch", "watch"}},
             {"configmaps", {"create", "delete", "get", "list", "update", "watch"}}}};
  }

  KubeStoreWorld() { EXPECT_TRUE(server_.Start()); }

  rt::Loop& loop() { return node_.loop(); }

  rt::Net& net() { return node_.net(); }

  rt::SimWorld& world() { return world_; }

  kube::ApiServer& server() { return server_; }

  KubeAccess access() const {
    return {.server = {.host = "kube", .port = 8001}, .space = "fleet", .token_file = {}};
  }

  std::unique_ptr<KubeStore> OpenKube(KubeAccess access) {
    KubeStoreOptions options;
    options.access = std::move(access);
    options.lease.ttl = std::chrono::seconds(3);
    return std::make_unique<KubeStore>(loop(), net(), std::move(options));
  }

  std::unique_ptr<KubeStore> OpenKube() { return OpenKube(access()); }

  std::unique_ptr<LeaseStore> Open() { return OpenKube(); }

  bool RunUntil(const std::function<bool()>& done) {
    return world_.RunUntil(done, world_.now() + std::chrono::seconds(60)) == rt::SimEnd::kDone;
  }

  void RunFor(rt::Duration time) { world_.RunTo(world_.now() + time); }

  /// What stands in the ConfigMaps, whether or not their holders live.
  StoreValues Dump() {
    StoreValues values;
    for (const wire::Json& object : server_.state().Objects("configmaps")) {
      if (const std::optional<KubeEntry> entry = ReadKubeEntry(object)) {
        values[entry->key] = entry->value;
      }
    }
    return values;
  }

  void Wipe() { server_.Wipe(); }

 private:
  rt::SimWorld world_{rt::SimOptions{.seed = 11}};
  rt::SimNode& server_node_ = world_.AddNode("kube");
  rt::SimNode& node_ = world_.AddNode("node");
  kube::ApiServer server_{
      server_node_.loop(), server_node_.net(),
      kube::ServerOptions{
          .listen = {.host = "0.0.0.0", .port = 8001}, .tokens = {}, .rules = DocumentedRules()}};
};

/// The memory store under virtual time; the hub has a node of its own.
class MemStoreWorld {
 public:
  static std::string SkipReason() { return ""; }

  rt::Loop& loop() { return node_.loop(); }

  std::unique_ptr<LeaseStore> Open() { return std::make_unique<MemStore>(loop(), hub_); }

  bool RunUntil(const std::function<bool()>& done) {
    return world_.RunUntil(done, world_.now() + std::chrono::seconds(60)) == rt::SimEnd::kDone;
  }

  StoreValues Dump() { return hub_->Dump(); }

  void Wipe() { hub_->Reset(); }

  /// Sets the store back; what stands there then has its own lease.
  void Restore(const StoreValues& values) { hub_->Reset(values); }

  MemHub& hub() { return *hub_; }

  rt::SimWorld& world() { return world_; }

  rt::SimNode& hub_node() { return hub_node_; }

 private:
  rt::SimWorld world_{rt::SimOptions{.seed = 7}};
  rt::SimNode& hub_node_ = world_.AddNode("store");
  rt::SimNode& node_ = world_.AddNode("node");
  std::shared_ptr<MemHub> hub_ =
      std::make_shared<MemHub>(hub_node_.loop(), LeaseOptions{.ttl = std::chrono::seconds(3)});
};

}  // namespace pixii::control
