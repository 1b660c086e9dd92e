#include "control/scale_connector.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/kube_objects.h"
#include "control/scale_keeper.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr int kPatchesMax = 4;  // on fresh objects, while somebody else changes them
constexpr int kConflict = 409;

std::optional<std::uint32_t> CountOf(const std::vector<ScaleCount>& counts,
                                     const std::string& component) {
  const auto found = std::ranges::find(counts, component, &ScaleCount::component);
  return found == counts.end() ? std::nullopt : std::optional(found->replicas);
}

class StoreConnector final : public ScaleConnector {
 public:
  StoreConnector(rt::Loop& loop, LeaseStore& store, StoreConnectorOptions options)
      : loop_(loop), options_(std::move(options)), asker_(store, options_.ns) {}

  rt::Task<Result<ScaleView>> Look(rt::Time /*deadline*/) override { co_return LookNow(); }

  rt::Task<Result<void>> Scale(ScaleOrder order, rt::Time /*deadline*/) override {
    std::vector<ScaleCount> counts = order.counts;
    const std::int64_t decision = order.decision;
    PX_CO_CHECK_OK(asker_.Ask(std::move(order)));
    asked_ = std::move(counts);
    asked_decision_ = decision;
    asked_at_ = loop_.Now();
    co_return Result<void>();
  }

 private:
  Result<ScaleView> LookNow() const {
    if (asker_.trouble()) {
      return Fail(*asker_.trouble());
    }
    const std::optional<ScaleReport>& report = asker_.report();
    if (!asker_.answered() || (options_.needs_report && !report)) {
      return Fail(Code::kUnavailable,
                  asker_.answered()
                      ? "nobody says how many workers there shall be: does pixii up run this "
                        "planner, or is its namespace another one?"
                      : "discovery's store has not answered yet");
    }
    ScaleView out;
    for (std::size_t pool = 0; pool < kPoolCount; ++pool) {
      const std::string& component = options_.components[pool];
      if (report) {
        out.asked[pool] = CountOf(report->counts, component);
      }
      if (!options_.needs_report && asked_decision_ > asker_.done()) {
        out.asked[pool] = CountOf(asked_, component);
      }
    }
    out.pending = asked_decision_ > asker_.done() && loop_.Now() - asked_at_ < options_.patience;
    out.error = report && asked_decision_ > 0 ? report->error : std::string();
    return out;
  }

  rt::Loop& loop_;
  const StoreConnectorOptions options_;
  ScaleAsker asker_;
  std::vector<ScaleCount> asked_;
  std::int64_t asked_decision_ = 0;  // 0: none
  rt::Time asked_at_{};
};

class KubeConnector final : public ScaleConnector {
 public:
  KubeConnector(rt::Loop& loop, rt::Net& net, KubeAccess access, std::string name,
                PoolComponents components)
      : client_(loop, net, std::move(access)),
        name_(std::move(name)),
        components_(std::move(components)) {}

  rt::Task<Result<ScaleView>> Look(rt::Time deadline) override {
    auto reading = Read(deadline);
    PX_CO_TRY(const Json deployment, co_await std::move(reading));
    co_return ViewOf(deployment);
  }

  rt::Task<Result<void>> Scale(ScaleOrder order, rt::Time deadline) override {
    for (int i = 0; i < kPatchesMax; ++i) {
      auto reading = Read(deadline);
      PX_CO_TRY(const Json deployment, co_await std::move(reading));
      PX_CO_TRY(Json patch, PatchOf(deployment, order));
      auto patching = client_.MergePatch(KubeKind::kGraph, name_, std::move(patch), deadline);
      PX_CO_TRY(const KubeAnswer answer, co_await std::move(patching));
      if (answer.ok()) {
        co_return Result<void>();
      }
      if (answer.status != kConflict) {
        co_return Fail(Code::kUnavailable,
                       fmt::format("kubernetes: {} cannot be changed: {} {}", name_, answer.status,
                                   TextAt(answer.body, {"message"})));
      }
    }
    co_return Fail(
        Code::kUnavailable,
        fmt::format("kubernetes: {} was changed by others {} times meanwhile", name_, kPatchesMax));
  }

 private:
  rt::Task<Result<Json>> Read(rt::Time deadline) {
    auto getting = client_.Get(KubeKind::kGraph, name_, deadline);
    PX_CO_TRY(KubeAnswer answer, co_await std::move(getting));
    if (!answer.ok()) {
      co_return Fail(Code::kUnavailable,
                     fmt::format("kubernetes: there is no DynamoGraphDeployment {} ({})", name_,
                                 answer.status));
    }
    co_return std::move(answer.body);
  }

  Result<ScaleView> ViewOf(const Json& deployment) const {
    ScaleView out;
    for (const Pool pool : {Pool::kPrefill, Pool::kDecode}) {
      const std::string& component = components_[static_cast<std::size_t>(pool)];
      if (component.empty()) {
        continue;
      }
      PX_TRY(const std::size_t index, FindGraphComponent(deployment, pool, component));
      const Json& found = FindAt(deployment, {"spec", "components"})->array()[index];
      const Json* replicas = found.Find("replicas");
      const std::int64_t count = replicas == nullptr ? 1 : replicas->AsInt().value_or(1);
      out.asked[static_cast<std::size_t>(pool)] =
          static_cast<std::uint32_t>(std::clamp<std::int64_t>(count, 0, kScaleReplicasMax));
    }
    return out;
  }

  // A merge patch replaces a list as a whole (RFC 7386), so it has all of the list; and it is taken
  // only of the object that it was made from.
  Result<Json> PatchOf(const Json& deployment, const ScaleOrder& order) const {
    Json::Array components = FindAt(deployment, {"spec", "components"}) != nullptr
                                 ? FindAt(deployment, {"spec", "components"})->array()
                                 : Json::Array();
    for (const Pool pool : {Pool::kPrefill, Pool::kDecode}) {
      const std::string& component = components_[static_cast<std::size_t>(pool)];
      const std::optional<std::uint32_t> count = CountOf(order.counts, component);
      if (component.empty() || !count) {
        continue;
      }
      PX_TRY(const std::size_t index, FindGraphComponent(deployment, pool, component));
      components[index].Set("replicas", std::int64_t{*count});
    }
    Json metadata{Json::Object{}};
    metadata.Set("resourceVersion", VersionOf(deployment).resource_version);
    Json spec{Json::Object{}};
    spec.Set("components", std::move(components));
    Json out{Json::Object{}};
    out.Set("metadata", std::move(metadata));
    out.Set("spec", std::move(spec));
    return out;
  }

  KubeClient client_;
  const std::string name_;
  const PoolComponents components_;
};

}  // namespace

Result<std::size_t> FindGraphComponent(const Json& deployment, Pool pool,
                                       std::string_view component) {
  const Json* components = FindAt(deployment, {"spec", "components"});
  std::vector<std::string> names;
  std::vector<std::size_t> of_type;
  if (components != nullptr && components->is_array()) {
    for (std::size_t i = 0; i < components->array().size(); ++i) {
      const Json& one = components->array()[i];
      const std::string type = TextAt(one, {"type"});
      if (TextAt(one, {"name"}) == component) {
        return i;
      }
      if (pool == Pool::kPrefill ? type == "prefill" : type == "decode" || type == "worker") {
        of_type.push_back(i);
      }
      names.push_back(TextAt(one, {"name"}));
    }
  }
  if (of_type.size() == 1) {
    return of_type.front();
  }
  return Fail(Code::kNotFound,
              fmt::format("the deployment has no component {}, and {} of its kind; it has {}",
                          component, of_type.empty() ? "none" : "several", fmt::join(names, ", ")));
}

std::unique_ptr<ScaleConnector> MakeStoreConnector(rt::Loop& loop, LeaseStore& store,
                                                   StoreConnectorOptions options) {
  return std::make_unique<StoreConnector>(loop, store, std::move(options));
}

std::unique_ptr<ScaleConnector> MakeKubeConnector(rt::Loop& loop, rt::Net& net, KubeAccess access,
                                                  std::string name, PoolComponents components) {
  return std::make_unique<KubeConnector>(loop, net, std::move(access), std::move(name),
                                         std::move(components));
}

}  // namespace pixii::control
