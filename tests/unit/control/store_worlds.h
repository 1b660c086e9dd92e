// Every lease store in a world of its own, for tests that hold for all of them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "control/file_store.h"
#include "control/lease_store.h"
#include "control/mem_store.h"
#include "rt/loop.h"
#include "rt/sim_world.h"

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
