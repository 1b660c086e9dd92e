#include "control/kube_follower.h"

#include <algorithm>
#include <utility>

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::size_t kWatchLineBytesMax = 16 * 1024 * 1024;

}  // namespace

KubeFollower::KubeFollower(rt::Loop& loop, rt::Net& net, KubeFollowOptions options,
                           KubeFollowHandlers handlers)
    : loop_(loop),
      options_(std::move(options)),
      handlers_(std::move(handlers)),
      client_(loop, net, options_.access) {}

void KubeFollower::Start() { tasks_.Start(FollowLoop()); }

void KubeFollower::Stop() { tasks_.Clear(); }

rt::Task<void> KubeFollower::FollowLoop() {
  rt::Duration backoff = options_.backoff_min;
  while (true) {
    const std::string before = version_;
    auto following = Follow();
    const Result<void> followed = co_await std::move(following);
    if (!followed) {
      trouble_ = followed.error();
      was_away_ = true;
      handlers_.on_change();
    }
    if (followed || version_ != before) {
      backoff = options_.backoff_min;
    }
    auto pause = loop_.SleepUntil(std::max(loop_.Now() + backoff, client_.not_before()));
    co_await std::move(pause);
    backoff = std::min(backoff * 2, options_.backoff_max);
  }
}

/// Reads the state and follows its changes until that breaks. Errors: the server cannot be asked.
/// Without an error the state is to be read anew.
rt::Task<Result<void>> KubeFollower::Follow() {
  auto listing = ListAll();
  PX_CO_CHECK_OK(co_await std::move(listing));
  while (true) {
    auto watching = WatchOnce();
    PX_CO_TRY(const Next next, co_await std::move(watching));
    if (next == Next::kList) {
      co_return Result<void>();
    }
    auto pause = loop_.SleepFor(options_.backoff_min);  // a server may end every watch at once
    co_await std::move(pause);
  }
}

rt::Task<Result<void>> KubeFollower::ListAll() {
  auto listing =
      client_.List(options_.kind, KubeListOptions{.selector = options_.selector}, call_deadline());
  PX_CO_TRY(const KubeAnswer answer, co_await std::move(listing));
  if (!answer.ok()) {
    co_return Fail(Code::kUnavailable,
                   "kubernetes: a list is refused: " + TextAt(answer.body, {"message"}));
  }
  PX_CO_CHECK_OK(TakeList(answer.body));
  handlers_.on_change();
  co_return Result<void>();
}

Result<void> KubeFollower::TakeList(const Json& list) {
  const Json* items = list.Find("items");
  const std::string version = TextAt(list, {"metadata", "resourceVersion"});
  if (version.empty()) {
    return Fail(Code::kDataCorrupt, "kubernetes: a list without a resource version");
  }
  static const Json::Array kNone;  // an empty list may be null
  version_ = version;
  listed_ = true;
  trouble_.reset();
  handlers_.on_list(items != nullptr && items->is_array() ? items->array() : kNone,
                    std::exchange(was_away_, false));
  return {};
}

rt::Time KubeFollower::Patience() const {
  const rt::Time patience = loop_.Now() + options_.beat;
  return handlers_.patience ? std::min(patience, handlers_.patience()) : patience;
}

/// One watch, from what we know to its end.
rt::Task<Result<KubeFollower::Next>> KubeFollower::WatchOnce() {
  auto opening = client_.Watch(options_.kind, version_, options_.watch_length, call_deadline(),
                               options_.selector);
  Result<std::unique_ptr<HttpStream>> stream = co_await std::move(opening);
  if (!stream) {
    if (stream.error().code() == Code::kNotFound) {
      co_return Next::kList;
    }
    co_return Fail(stream.error());
  }
  std::string pending;
  while (true) {
    auto reading = (*stream)->Read(Patience());
    const Result<std::string> piece = co_await std::move(reading);
    if (piece && piece->empty()) {
      co_return Next::kWatch;  // its time was over
    }
    if (piece) {
      if (!TakePiece(pending, *piece)) {
        co_return Next::kList;
      }
      handlers_.on_change();
      continue;
    }
    if (piece.error().code() != Code::kDeadlineExceeded) {
      co_return Next::kList;
    }
    auto asking = AskIfSilent();
    co_return co_await std::move(asking);
  }
}

/// A server that hangs, or a connection that nobody knows of, is as silent as one without news.
rt::Task<Result<KubeFollower::Next>> KubeFollower::AskIfSilent() {
  if (options_.list_if_silent) {
    co_return Next::kList;
  }
  auto listing = client_.List(
      options_.kind,
      KubeListOptions{.selector = options_.selector, .limit = 1, .metadata_only = true},
      call_deadline());
  PX_CO_TRY(const KubeAnswer answer, co_await std::move(listing));
  const std::uint64_t there = ResourceNumber(TextAt(answer.body, {"metadata", "resourceVersion"}));
  // A server that was set back has nothing to say after our version.
  co_return answer.ok() && there >= ResourceNumber(version_) ? Next::kWatch : Next::kList;
}

Result<void> KubeFollower::TakePiece(std::string& pending, std::string_view piece) {
  pending += piece;
  std::size_t begin = 0;
  for (std::size_t end = pending.find('\n'); end != std::string::npos;
       begin = end + 1, end = pending.find('\n', begin)) {
    const std::string_view line = std::string_view(pending).substr(begin, end - begin);
    if (!line.empty()) {
      PX_TRY(const KubeEvent event, KubeClient::ReadWatchLine(line));
      PX_CHECK_OK(TakeEvent(event));
    }
  }
  pending.erase(0, begin);
  if (pending.size() > kWatchLineBytesMax) {
    return Fail(Code::kTooLarge, "kubernetes: an event of more than 16 MiB");
  }
  return {};
}

Result<void> KubeFollower::TakeEvent(const KubeEvent& event) {
  const std::string version = VersionOf(event.object).resource_version;
  if (version.empty() || ResourceNumber(version) < ResourceNumber(version_)) {
    return Fail(Code::kDataCorrupt, "kubernetes: an event that is older than what we know");
  }
  if (event.type != KubeEvent::Type::kBookmark) {  // of which only the version counts
    handlers_.on_event(event);
  }
  version_ = version;
  return {};
}

}  // namespace pixii::control
