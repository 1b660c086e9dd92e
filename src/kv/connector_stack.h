// Several connectors as one: blocks come from whoever brings most of them, and go to all. Who can
// only guess is asked if nobody knows of any.
//
// Thread: as a Connector.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "kv/connector.h"

namespace pixii::kv {

class ConnectorStack final : public Connector {
 public:
  /// Of those that bring equally many blocks the first is asked.
  explicit ConnectorStack(std::vector<std::unique_ptr<Connector>> parts);

  void Start(rt::Function<void()> wake) override;
  std::uint32_t Match(const ConnectorRequestRef& request, std::uint32_t first) override;
  void Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
            std::span<const BlockMemory> targets) override;
  void Expect(std::span<const ExpectedRequest> waiting) override;
  void Cancel(LoadId id) override;
  void Published(std::vector<PublishedBlock> blocks) override;
  void Progress(const ConnectorRequestRef& request, std::uint32_t first,
                std::vector<BlockPin> pins) override;
  void Distrust(std::span<const Hash128> hashes) override;
  void Clear(bool lasting) override;
  void Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) override;
  rt::Time Poll(rt::Time now, std::vector<LoadEnd>& ended) override;
  bool DrainEvents(CacheChanges& out, bool everything) override;
  bool lost_events() const override;
  bool idle() const override;

 private:
  struct Choice {
    Connector* part = nullptr;
    std::uint32_t blocks = 0;
  };

  Choice Choose(const ConnectorRequestRef& request, std::uint32_t first) const;

  std::vector<std::unique_ptr<Connector>> parts_;
  std::unordered_map<LoadId, Connector*> loads_;
};

}  // namespace pixii::kv
