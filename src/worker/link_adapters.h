// A link's side of an engine's adapters: which there are, reading them, and waiting for one.
//
// Thread: the frontend's loop; files are read on a thread of its own.
// The engine decides what stays loaded. Whatever was loaded, or stood in the catalogue from the
// start, may be named until it is unloaded: if it is not loaded when somebody asks for it, it is
// read. So giving way to others costs time, never an answer.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/worker_link.h"
#include "engine/adapter_store.h"
#include "engine/engine_loop.h"
#include "rt/loop.h"
#include "rt/work_pool.h"
#include "wire/messages/adapters.h"
#include "wire/messages/generate.h"

namespace pixii::worker {

/// An adapter that may be loaded when it is first named.
struct CatalogueEntry {
  std::string name;
  std::string source;
};

struct AdapterLinkOptions {
  using Reader = std::function<Result<std::shared_ptr<const engine::AdapterWeights>>(
      const std::string& source)>;

  Reader read;  // called on another thread; empty: no adapters are loaded
  std::vector<CatalogueEntry> catalogue = {};
};

class LinkAdapters final {
 public:
  using Handler = control::WorkerLink::AdapterHandler;
  using Waiter = std::function<void(Result<void>)>;

  static constexpr std::uint32_t kQueueLengthMax = 256;    // adapters that wait to be read
  static constexpr std::size_t kCatalogueSizeMax = 65536;  // names

  /// All outlive this. `card.adapters`, at first those that the engine has already, are kept up to
  /// date: loaded ones and those of the catalogue, by name.
  LinkAdapters(rt::Loop& loop, engine::EngineLoop& engine, AdapterLinkOptions options,
               wire::ModelCard& card);

  LinkAdapters(const LinkAdapters&) = delete;
  LinkAdapters& operator=(const LinkAdapters&) = delete;
  /// Waits for the file that is read now; no handler is called any more.
  ~LinkAdapters();

  void Load(wire::LoadAdapterRequest request, Handler on_done);
  void Unload(std::string name, Handler on_done);

  /// Whether a request for `name` has to wait for WhenLoaded.
  bool MustLoad(std::string_view name) const;

  bool InCatalogue(std::string_view name) const { return catalogue_.contains(name); }

  /// Reads an adapter of the catalogue, once for all who wait for it at a time.
  void WhenLoaded(const std::string& name, Waiter waiter);

 private:
  Result<void> Check(const wire::LoadAdapterRequest& request) const;
  void Read(wire::LoadAdapterRequest request, Handler on_done);
  engine::AdapterReply Reply(std::function<void(Result<void>)> then);
  void SetLoaded(std::vector<wire::AdapterCard> loaded);
  const wire::AdapterCard* Find(std::string_view name) const;

  rt::Loop& loop_;
  engine::EngineLoop& engine_;
  AdapterLinkOptions options_;
  wire::ModelCard& card_;
  std::map<std::string, std::string, std::less<>> catalogue_;  // name to source
  std::map<std::string, std::vector<Waiter>> waiting_;         // by name
  std::vector<wire::AdapterCard> loaded_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  std::unique_ptr<rt::WorkPool> pool_;                          // null: no adapters are loaded
};

}  // namespace pixii::worker
