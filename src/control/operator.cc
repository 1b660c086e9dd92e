#include "control/operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "control/kube_compare.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::uint32_t kDoublingsMax = 20;

std::string NameOf(const Json& object) { return TextAt(object, {"metadata", "name"}); }

std::uint64_t AgeOf(const Json& object) {
  return ResourceNumber(VersionOf(object).resource_version);
}

std::string_view WordOf(KubeAction::Verb verb) {
  switch (verb) {
    case KubeAction::Verb::kCreate:
      return "create";
    case KubeAction::Verb::kReplace:
      return "replace";
    case KubeAction::Verb::kReplaceStatus:
      return "status";
    case KubeAction::Verb::kDelete:
      break;
  }
  return "delete";
}

}  // namespace

Operator::Operator(rt::Loop& loop, rt::Net& net, OperatorOptions options,
                   std::function<void(const std::string&)> on_news)
    : loop_(loop),
      net_(net),
      options_(std::move(options)),
      on_news_(std::move(on_news)),
      election_(options_.election),
      client_(loop, net, options_.access),
      changed_(loop) {
  Follow(graphs_, "");
  Follow(deployments_, std::string(kManagedSelector));
  Follow(services_, std::string(kManagedSelector));
}

void Operator::Start() {
  for (Side* side : {&graphs_, &deployments_, &services_}) {
    side->follower->Start();
  }
  tasks_.Start(ElectLoop());
  tasks_.Start(WorkLoop());
}

bool Operator::works() const {
  return leads() && graphs_.follower->listed() && deployments_.follower->listed() &&
         services_.follower->listed();
}

std::optional<Error> Operator::trouble() const {
  for (const Side* side : {&graphs_, &deployments_, &services_}) {
    if (side->follower->trouble()) {
      return side->follower->trouble();
    }
  }
  return std::nullopt;
}

rt::Time Operator::call_deadline() const { return loop_.Now() + options_.beat; }

// ---- what there is

Operator::Side& Operator::SideOf(KubeKind kind) {
  return kind == KubeKind::kGraph        ? graphs_
         : kind == KubeKind::kDeployment ? deployments_
                                         : services_;
}

void Operator::Follow(Side& side, std::string selector) {
  side.follower = std::make_unique<KubeFollower>(
      loop_, net_,
      KubeFollowOptions{.access = options_.access,
                        .kind = side.kind,
                        .selector = std::move(selector),
                        .beat = options_.beat},
      KubeFollowHandlers{.on_list =
                             [this, &side](const Json::Array& objects, bool /*was_away*/) {
                               side.objects.clear();
                               for (const Json& object : objects) {
                                 Take(side, object);
                               }
                               MarkAll();
                             },
                         .on_event =
                             [this, &side](const KubeEvent& event) {
                               if (event.type == KubeEvent::Type::kPut) {
                                 Take(side, event.object);
                               } else {
                                 Drop(side, NameOf(event.object),
                                      VersionOf(event.object).resource_version);
                                 MarkOf(side, event.object);
                               }
                             },
                         .on_change = [this] { changed_.WakeAll(); }});
}

/// Of what we wrote and what a watch says later of it, the newer one counts.
void Operator::Take(Side& side, Json object) {
  const KubePlace place = PlaceOf(side.kind);
  object.Set("apiVersion", place.api_version);  // items of a list do not say it
  object.Set("kind", place.kind);
  MarkOf(side, object);
  Json& there = side.objects[NameOf(object)];
  if (!there.is_object() || AgeOf(there) <= AgeOf(object)) {
    there = std::move(object);
  }
}

void Operator::Drop(Side& side, const std::string& name, std::string_view version) {
  const auto found = side.objects.find(name);
  if (found != side.objects.end() &&
      (version.empty() || AgeOf(found->second) <= ResourceNumber(version))) {
    side.objects.erase(found);
  }
}

void Operator::MarkOf(const Side& side, const Json& object) {
  Mark(side.kind == KubeKind::kGraph ? NameOf(object)
                                     : TextAt(object, {"metadata", "labels", kGraphLabel}));
}

void Operator::Mark(const std::string& graph) {
  marked_.insert(graph);
  changed_.WakeAll();
}

void Operator::MarkAll() {
  for (const auto& [name, graph] : graphs_.objects) {
    Mark(name);
  }
}

// ---- who acts

rt::Task<void> Operator::ElectLoop() {
  while (true) {
    auto electing = ElectOnce();
    co_await std::move(electing);
    if (leads() != led_) {
      led_ = !led_;
      on_news_(led_ ? "leads" : "leads no more");
      if (led_) {
        MarkAll();
      }
      changed_.WakeAll();
    }
    const rt::Duration retry = options_.election.retry;
    auto pause =
        loop_.SleepFor(rt::Duration(loop_.random().Between(retry.count() / 2, retry.count())));
    co_await std::move(pause);
  }
}

rt::Task<void> Operator::ElectOnce() {
  const rt::Time begun_at = loop_.Now();
  const std::string name = options_.election.name;
  const rt::Time deadline = begun_at + options_.election.renew_deadline / 2;
  auto reading = client_.Get(KubeKind::kLease, name, deadline);
  const Result<KubeAnswer> read = co_await std::move(reading);
  if (!read || (!read->ok() && read->status != 404)) {
    co_return;
  }
  const std::optional<KubeElection::Write> write =
      election_.OnRead(read->ok() ? &read->body : nullptr, loop_.Now(), loop_.WallNow());
  if (!write) {
    co_return;
  }
  auto writing = write->creates ? client_.Create(KubeKind::kLease, write->object, deadline)
                                : client_.Replace(KubeKind::kLease, name, write->object, deadline);
  const Result<KubeAnswer> written = co_await std::move(writing);
  if (written && written->ok()) {
    election_.OnWritten(begun_at);
  } else if (written) {
    election_.OnLost();
  }
}

void Operator::Stop(std::function<void()> on_done) {
  for (Side* side : {&graphs_, &deployments_, &services_}) {
    side->follower->Stop();
  }
  tasks_.Clear();
  tasks_.Start(GiveBack(std::move(on_done)));
}

rt::Task<void> Operator::GiveBack(std::function<void()> on_done) {
  if (leads()) {
    const std::string name = options_.election.name;
    auto reading = client_.Get(KubeKind::kLease, name, call_deadline());
    const Result<KubeAnswer> read = co_await std::move(reading);
    const std::optional<Json> freed =
        read && read->ok() ? election_.Release(read->body, loop_.WallNow()) : std::nullopt;
    if (freed) {
      auto writing = client_.Replace(KubeKind::kLease, name, *freed, call_deadline());
      const Result<KubeAnswer> written = co_await std::move(writing);
      (void)written;  // it runs out otherwise
    }
    election_.OnLost();
  }
  on_done();
}

// ---- what is done

rt::Time Operator::NextTurn() const {
  rt::Time at = rt::kNever;
  for (const std::string& graph : marked_) {
    const auto turn = turns_.find(graph);
    at = std::min(at, turn == turns_.end() ? rt::Time{} : turn->second.not_before);
  }
  return at;
}

rt::Task<void> Operator::WorkLoop() {
  rt::Time resync_at = loop_.Now() + options_.resync;
  while (true) {
    if (loop_.Now() >= resync_at) {
      resync_at = loop_.Now() + options_.resync;
      MarkAll();
    }
    const rt::Time next = works() ? std::max(NextTurn(), client_.not_before()) : rt::kNever;
    if (next > loop_.Now()) {
      co_await changed_.Wait(std::min(next, resync_at));
      continue;
    }
    for (const std::string& graph : std::set<std::string>(marked_)) {
      if (turns_[graph].not_before <= loop_.Now() && works()) {
        marked_.erase(graph);
        auto working = Work(graph);
        co_await std::move(working);
      }
    }
  }
}

/// A graph whose plan does not change though it was carried out is looked at less and less often.
void Operator::Pause(Turn& turn, const std::vector<KubeAction>& actions) {
  std::string text;
  for (const KubeAction& action : actions) {
    const Json* spec = action.object.Find("spec");
    text += fmt::format("{} {} {}\n", WordOf(action.verb), action.name,
                        spec == nullptr ? "" : KubeDigest(*spec));
  }
  turn.repeats = !text.empty() && text == turn.last ? turn.repeats + 1 : 0;
  turn.last = std::move(text);
  const std::uint32_t doublings = std::min(turn.repeats, kDoublingsMax);
  turn.not_before =
      loop_.Now() + std::min(options_.pause_max, rt::Duration(options_.pause_min.count() *
                                                              (std::int64_t{1} << doublings)));
}

rt::Task<void> Operator::Work(std::string graph) {
  const auto found = graphs_.objects.find(graph);
  if (found == graphs_.objects.end()) {
    turns_.erase(graph);
    co_return;
  }
  const std::vector<KubeAction> actions = PlanGraph({.graph = &found->second,
                                                     .deployments = &deployments_.objects,
                                                     .services = &services_.objects,
                                                     .refused = turns_[graph].refused},
                                                    options_.rules, loop_.WallNow());
  Pause(turns_[graph], actions);
  for (const KubeAction& action : actions) {
    if (!leads()) {
      co_return;
    }
    auto doing = Do(graph, action);
    if (!co_await std::move(doing)) {
      Mark(graph);  // what follows was decided on something else than there is
      co_return;
    }
  }
}

rt::Task<Result<KubeAnswer>> Operator::Send(KubeAction action) {
  // Not beyond the time for which nobody else acts.
  const rt::Time deadline = std::min(call_deadline(), election_.leads_until());
  switch (action.verb) {
    case KubeAction::Verb::kCreate:
      return client_.Create(action.kind, std::move(action.object), deadline);
    case KubeAction::Verb::kReplace:
      return client_.Replace(action.kind, action.name, std::move(action.object), deadline);
    case KubeAction::Verb::kReplaceStatus:
      return client_.ReplaceStatus(action.kind, action.name, std::move(action.object), deadline);
    case KubeAction::Verb::kDelete:
      break;
  }
  return client_.Delete(action.kind, action.name, std::move(action.version), deadline);
}

/// Whether to go on with what was planned.
rt::Task<bool> Operator::Do(std::string graph, KubeAction action) {
  ++writes_;
  Side& side = SideOf(action.kind);
  const std::string what = fmt::format("{}: {} {}", graph, PlaceOf(action.kind).kind, action.name);
  auto sending = Send(action);
  Result<KubeAnswer> answer = co_await std::move(sending);
  Turn& turn = turns_[graph];
  const std::string key = RefusalKey(action.kind, action.name);
  if (!answer) {
    on_news_(fmt::format("{}: {}", what, answer.error().detail()));
    if (answer.error().code() == Code::kInvalidArgument ||
        answer.error().code() == Code::kForbidden) {
      const bool is_new = turn.refused[key] != answer.error().detail();
      turn.refused[key] = answer.error().detail();
      co_return !is_new;  // the status shall say it; the rest can be tried
    }
    co_return false;
  }
  if (answer->ok()) {
    turn.refused.erase(key);
    if (action.verb == KubeAction::Verb::kDelete) {
      Drop(side, action.name, "");
    } else {
      Take(side, std::move(answer->body));
    }
    if (!action.why.empty()) {
      on_news_(fmt::format("{}: {}", what, action.why));
    }
    co_return true;
  }
  const bool was_refused = turn.refused.erase(key) > 0;
  auto refreshing = Refresh(graph, action.kind, action.name);
  co_await std::move(refreshing);
  co_return was_refused&& turn.refused.contains(key);
}

/// Something else is there than was believed: 404, 409.
rt::Task<void> Operator::Refresh(std::string graph, KubeKind kind, std::string name) {
  auto reading = client_.Get(kind, name, call_deadline());
  Result<KubeAnswer> read = co_await std::move(reading);
  Side& side = SideOf(kind);
  if (!read) {
    co_return;
  }
  if (!read->ok()) {
    Drop(side, name, "");
    co_return;
  }
  const bool ours = kind == KubeKind::kGraph ||
                    TextAt(read->body, {"metadata", "labels", kManagedByLabel}) == kManagedBy;
  if (ours) {
    Take(side, std::move(read->body));
  } else {
    turns_[graph].refused[RefusalKey(kind, name)] = "there is one already, made by somebody else";
  }
}

}  // namespace pixii::control
