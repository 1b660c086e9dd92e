// The links that a transport has made and that somebody still has: it ends them when it ends.
//
// Thread: the agent's loop. Private to the folder.
#pragma once

#include <memory>
#include <vector>

namespace pixii::transport {

template <class AnyLink>
class LinkList final {
 public:
  /// Forgets those that are gone.
  void Add(const std::shared_ptr<AnyLink>& link) {
    std::erase_if(links_, [](const auto& each) { return each.expired(); });
    links_.push_back(link);
  }

  template <class Do>
  void ForEach(Do act) const {
    for (const std::weak_ptr<AnyLink>& each : links_) {
      if (const std::shared_ptr<AnyLink> link = each.lock()) {
        act(*link);
      }
    }
  }

 private:
  std::vector<std::weak_ptr<AnyLink>> links_;
};

}  // namespace pixii::transport
