// The models of a frontend by the names that requests use. They come and go at run time.
//
// Thread: the frontend's loop.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/model_service.h"

namespace pixii::frontend {

class ModelTable final {
 public:
  /// A model that has a name of its is retired.
  ModelService& Add(std::unique_ptr<ModelService> service);

  /// Nothing new goes there; it is kept while it is held.
  void Retire(ServiceId id);

  /// Models that are known and cannot serve yet: name to why.
  void SetPending(std::map<std::string, std::string> pending) { pending_ = std::move(pending); }

  /// Whom a request means that names the model or adapter `wanted`; empty: the only one. Errors:
  /// kNotFound, kInvalidArgument (no name, and there are several), kUnavailable (none serves yet);
  /// param "model".
  Result<ModelService*> Find(std::string_view wanted) const;

  /// The model that every request means, whatever name it has; null: look for the name.
  ModelService* only() const {
    return serving_.size() == 1 && pending_.empty() ? serving_.front().get() : nullptr;
  }

  /// In the order they came.
  const std::vector<std::unique_ptr<ModelService>>& serving() const { return serving_; }

  /// Null: it is gone, or retired.
  ModelService* ById(ServiceId id) const;

  /// Destroys what is retired and not held. Not to be called from one of them.
  void Sweep();

  /// Why nothing is served, or is not served yet.
  std::string Trouble() const;

 private:
  std::vector<std::unique_ptr<ModelService>> serving_;
  std::vector<std::unique_ptr<ModelService>> retired_;
  std::map<std::string, std::string> pending_;
  bool ever_ = false;  // one was added
};

/// What stands as "model" in the JSON object `body`, found without reading the rest: a nanosecond a
/// byte before it. Nothing: it has none that is a text, or is no JSON object.
std::optional<std::string> PeekModel(std::string_view body);

}  // namespace pixii::frontend
