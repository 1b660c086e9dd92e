// A connector plug-in (include/pixii/kv_connector.h): loaded, called, and kept apart from the rest
// of the program: it may throw, lie and hang.
//
// Thread: Load by one; all else on the plug-in's own.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <pixii/kv_connector.h>

#include "base/result.h"
#include "kv/connector.h"
#include "rt/shared_library.h"

namespace pixii::kv {

/// A request in the plug-in's form.
struct PluginRequest {
  explicit PluginRequest(const ConnectorRequest& request);

  std::string tenant;
  std::vector<TokenId> tokens;
  std::vector<pixii_kv_key> keys;
  pixii_kv_request view{};  // of the above
};

pixii_kv_key KeyOf(const Hash128& hash);

class ConnectorPlugin final {
 public:
  /// `path` of the shared object, `config` as JSON. Errors: those of the loader, kUnsupported for
  /// another ABI, kInvalidArgument with what the plug-in says of its configuration.
  static Result<std::shared_ptr<ConnectorPlugin>> Load(const std::string& path,
                                                       const std::string& config,
                                                       const BlockGeometry& geometry,
                                                       std::uint32_t rank,
                                                       std::size_t record_bytes);

  /// One that is part of the program. Errors: as Load.
  static Result<std::shared_ptr<ConnectorPlugin>> Make(const pixii_kv_connector* table,
                                                       const std::string& config,
                                                       const BlockGeometry& geometry,
                                                       std::uint32_t rank,
                                                       std::size_t record_bytes);

  ConnectorPlugin(const ConnectorPlugin&) = delete;
  ConnectorPlugin& operator=(const ConnectorPlugin&) = delete;
  ~ConnectorPlugin();

  /// All four: kUnavailable if it threw.
  Result<std::size_t> MatchedTokens(const PluginRequest& request, std::size_t computed_tokens);
  Result<void> Allocated(const PluginRequest& request, std::size_t computed_tokens,
                         std::span<pixii_kv_target> targets);
  Result<void> Step(std::span<const pixii_kv_block> blocks);
  Result<void> Finished(RequestId id);

  const std::string& name() const { return name_; }

 private:
  explicit ConnectorPlugin(const pixii_kv_connector* table) : table_(table), name_(table->name) {}

  std::optional<rt::SharedLibrary> library_;
  const pixii_kv_connector* table_;
  std::string name_;
  void* self_ = nullptr;
};

}  // namespace pixii::kv
