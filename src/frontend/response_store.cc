#include "frontend/response_store.h"

#include <iterator>
#include <utility>

namespace pixii::frontend {

void ResponseStore::Drop(Entries::iterator entry) {
  size_bytes_ -= entry->response->size_bytes;
  index_.erase(entry->key);
  entries_.erase(entry);
}

void ResponseStore::DropExpired(rt::Time now) {
  while (!entries_.empty() && entries_.front().expires <= now) {
    Drop(entries_.begin());
  }
}

void ResponseStore::Put(const std::string& tenant, const std::string& id, StoredResponse response,
                        rt::Time now) {
  DropExpired(now);
  if (response.size_bytes > options_.bytes_max || options_.count_max == 0) {
    return;
  }
  while (!entries_.empty() && (size_bytes_ + response.size_bytes > options_.bytes_max ||
                               entries_.size() >= options_.count_max)) {
    Drop(entries_.begin());
  }
  size_bytes_ += response.size_bytes;
  entries_.push_back({.key = {tenant, id},
                      .expires = now + options_.lifetime,
                      .response = std::make_shared<const StoredResponse>(std::move(response))});
  index_.insert_or_assign({tenant, id}, std::prev(entries_.end()));
}

std::shared_ptr<const StoredResponse> ResponseStore::Get(std::string_view tenant,
                                                         std::string_view id, rt::Time now) {
  DropExpired(now);
  auto found = index_.find(Key(tenant, id));
  return found == index_.end() ? nullptr : found->second->response;
}

bool ResponseStore::Erase(std::string_view tenant, std::string_view id, rt::Time now) {
  DropExpired(now);
  auto found = index_.find(Key(tenant, id));
  if (found == index_.end()) {
    return false;
  }
  Drop(found->second);
  return true;
}

}  // namespace pixii::frontend
