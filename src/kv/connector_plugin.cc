#include "kv/connector_plugin.h"

#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "rt/foreign_call.h"

namespace pixii::kv {

namespace {

static_assert(sizeof(TokenId) == sizeof(std::int32_t));
static_assert(sizeof(Hash128) == PIXII_KV_KEY_BYTES);

constexpr std::size_t kErrorBytes = 256;
using Entry = const pixii_kv_connector* (*)(std::uint32_t);

template <class Body>
Result<void> Guarded(Body body) {
  return rt::CallForeign(Code::kUnavailable, "the connector", std::move(body));
}

Result<void> CheckTable(const pixii_kv_connector* table) {
  if (table == nullptr || table->abi != PIXII_KV_CONNECTOR_ABI) {
    return Fail(Code::kUnsupported,
                fmt::format("it does not speak ABI {} of KV connectors{}", PIXII_KV_CONNECTOR_ABI,
                            table == nullptr ? "" : fmt::format(" but {}", table->abi)));
  }
  const bool whole = table->size >= sizeof *table && table->name != nullptr &&
                     table->create != nullptr && table->destroy != nullptr &&
                     table->matched_tokens != nullptr && table->allocated != nullptr &&
                     table->step != nullptr && table->finished != nullptr;
  if (!whole) {
    return Fail(Code::kUnsupported, "its table of functions is not whole");
  }
  return {};
}

}  // namespace

pixii_kv_key KeyOf(const Hash128& hash) {
  pixii_kv_key key;
  std::memcpy(key.bytes, &hash, sizeof(hash));
  return key;
}

PluginRequest::PluginRequest(const ConnectorRequest& request)
    : tenant(request.tenant), tokens(request.chain.tokens) {
  for (const Hash128& hash : request.chain.hashes) {
    keys.push_back(KeyOf(hash));
  }
  view.size = sizeof(view);
  view.id = Raw(request.id);
  view.tenant = tenant.c_str();
  view.priority = request.priority;
  view.tokens = tokens.data();
  view.token_count = tokens.size();
  view.keys = keys.data();
  view.key_count = keys.size();
}

Result<std::shared_ptr<ConnectorPlugin>> ConnectorPlugin::Load(const std::string& path,
                                                               const std::string& config,
                                                               const BlockGeometry& geometry,
                                                               std::uint32_t rank,
                                                               std::size_t record_bytes) {
  PX_TRY(rt::SharedLibrary library, rt::SharedLibrary::Open(path));
  PX_TRY(void* symbol, library.Symbol("pixii_kv_connector_entry"));
  const auto entry = reinterpret_cast<Entry>(symbol);
  const pixii_kv_connector* table = nullptr;
  PX_CHECK_OK(Guarded([&] { table = entry(PIXII_KV_CONNECTOR_ABI); }));
  PX_TRY(std::shared_ptr<ConnectorPlugin> plugin,
         Make(table, config, geometry, rank, record_bytes));
  plugin->library_.emplace(std::move(library));
  return plugin;
}

Result<std::shared_ptr<ConnectorPlugin>> ConnectorPlugin::Make(const pixii_kv_connector* table,
                                                               const std::string& config,
                                                               const BlockGeometry& geometry,
                                                               std::uint32_t rank,
                                                               std::size_t record_bytes) {
  PX_CHECK_OK(CheckTable(table));
  const pixii_kv_geometry told{.size = sizeof(told),
                               .rank = rank,
                               .block_tokens = geometry.block_tokens,
                               .record_bytes = record_bytes,
                               .model_fingerprint = geometry.model_fingerprint.c_str(),
                               .numerics_id = geometry.numerics_id.c_str(),
                               .kv_dtype = geometry.kv_dtype.c_str()};
  std::array<char, kErrorBytes> text{};
  pixii_error_text error{.text = text.data(), .capacity = text.size()};
  std::shared_ptr<ConnectorPlugin> plugin(new ConnectorPlugin(table));  // tidy: new it is private
  PX_CHECK_OK(
      Guarded([&] { plugin->self_ = table->create(config.data(), config.size(), &told, &error); }));
  if (plugin->self_ == nullptr) {
    text.back() = '\0';
    return Fail(Code::kInvalidArgument, text[0] == '\0' ? "it does not say why" : text.data());
  }
  return plugin;
}

ConnectorPlugin::~ConnectorPlugin() {
  if (self_ != nullptr) {
    static_cast<void>(Guarded([&] { table_->destroy(self_); }));
  }
}

Result<std::size_t> ConnectorPlugin::MatchedTokens(const PluginRequest& request,
                                                   std::size_t computed_tokens) {
  std::size_t matched = 0;
  PX_CHECK_OK(
      Guarded([&] { matched = table_->matched_tokens(self_, &request.view, computed_tokens); }));
  return matched;
}

Result<void> ConnectorPlugin::Allocated(const PluginRequest& request, std::size_t computed_tokens,
                                        std::span<pixii_kv_target> targets) {
  return Guarded([&] {
    table_->allocated(self_, &request.view, computed_tokens, targets.data(), targets.size());
  });
}

Result<void> ConnectorPlugin::Step(std::span<const pixii_kv_block> blocks) {
  const pixii_kv_step step{
      .size = sizeof(step), .blocks = blocks.data(), .block_count = blocks.size()};
  return Guarded([&] { table_->step(self_, &step); });
}

Result<void> ConnectorPlugin::Finished(RequestId id) {
  return Guarded([&] { table_->finished(self_, Raw(id)); });
}

}  // namespace pixii::kv
