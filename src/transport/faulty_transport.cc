#include "transport/faulty_transport.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "rt/random.h"
#include "rt/thread.h"
#include "transport/link_list.h"

namespace pixii::transport {

namespace {

/// A transfer that is made in place of another one, from or to memory of its own where need be.
struct Deed {
  TransferPtr original;  // null: told to nobody
  TransferPtr made;
  std::vector<std::byte> scratch;
  bool corrupt = false;
  bool over = false;                      // nobody wants it any more
  rt::Time not_before = rt::Time::min();  // its end
};

using DeedPtr = std::shared_ptr<Deed>;

class FaultyLink final : public Link, public std::enable_shared_from_this<FaultyLink> {
 public:
  FaultyLink(AgentContext& context, std::shared_ptr<Link> inner, const FaultOptions& options,
             std::uint64_t seed)
      : context_(context), options_(options), random_(seed), inner_(std::move(inner)) {}

  void Start(TransferPtr transfer) override {
    auto deed = std::make_shared<Deed>();
    deed->original = transfer;
    deeds_.push_back(deed);
    if (random_.Chance(options_.cut)) {
      context_.loop.Post([link = shared_from_this()] { link->Cut(); });
      return;
    }
    if (random_.Chance(options_.drop)) {
      return;  // until it is cancelled
    }
    deed->corrupt = random_.Chance(options_.corrupt);
    const bool again =
        transfer->operation == Operation::kWrite && random_.Chance(options_.duplicate);
    if (options_.bytes_per_s_max > 0) {
      const double seconds =
          static_cast<double>(transfer->size_bytes) / static_cast<double>(options_.bytes_per_s_max);
      deed->not_before =
          context_.loop.Now() + rt::Duration(static_cast<std::int64_t>(seconds * 1e9));
    }
    const rt::Duration delay = random_.Chance(options_.delay) ? DrawDelay() : rt::Duration(0);
    if (again) {
      auto late = std::make_shared<Deed>();
      late->made = Remake(*transfer, *late, true);
      After(delay + DrawDelay(), std::move(late));
    }
    deed->made =
        Remake(*transfer, *deed, deed->corrupt && transfer->operation == Operation::kWrite);
    After(delay, std::move(deed));
  }

  void Cancel(const TransferPtr& transfer) override {
    const auto found = std::ranges::find_if(
        deeds_, [&](const DeedPtr& deed) { return deed->original == transfer; });
    if (found == deeds_.end()) {
      return;
    }
    const DeedPtr deed = *found;
    deeds_.erase(found);
    deed->original = nullptr;
    deed->over = true;
    if (deed->made != nullptr && inner_ != nullptr) {
      inner_->Cancel(deed->made);
    }
    context_.Ended(transfer, Fail(Code::kCancelled, "cancelled"));
  }

  Result<void> Notify(std::string_view bytes) override {
    std::shared_ptr<Link> inner;
    bool lost = false;
    {
      rt::MutexLock lock(mutex_);
      lost = notify_random_.Chance(options_.drop);
      inner = inner_;
    }
    if (lost) {
      return {};
    }
    return inner == nullptr ? Fail(Code::kDisconnected, "the link was cut") : inner->Notify(bytes);
  }

  PeerState state() const override {
    rt::MutexLock lock(mutex_);
    return inner_ == nullptr ? PeerState::kBroken : inner_->state();
  }

  std::optional<Error> error() const override {
    rt::MutexLock lock(mutex_);
    return inner_ == nullptr ? Error(Code::kDisconnected, "the link was cut") : inner_->error();
  }

  /// The agent ends, or the link does: whatever runs has failed.
  void EndAll(const Error& error) {
    for (const DeedPtr& deed : std::exchange(deeds_, {})) {
      const TransferPtr original = std::exchange(deed->original, nullptr);
      deed->over = true;
      if (deed->made != nullptr && inner_ != nullptr) {
        inner_->Cancel(deed->made);
      }
      if (original != nullptr) {
        context_.Ended(original, Fail(error));
      }
    }
  }

 private:
  rt::Duration DrawDelay() {
    return rt::Duration(static_cast<std::int64_t>(random_.Below(
        static_cast<std::uint64_t>(std::max<std::int64_t>(1, options_.delay_max.count())))));
  }

  /// The same, whose end is told to us. `copied`: from memory of its own.
  TransferPtr Remake(const Transfer& transfer, Deed& deed, bool copied) {
    auto made = std::make_shared<Transfer>();
    made->id = static_cast<TransferId>(kOwnIds | next_id_++);
    made->peer = transfer.peer;
    made->operation = transfer.operation;
    made->pairs = transfer.pairs;
    made->size_bytes = transfer.size_bytes;
    made->notification = transfer.notification;
    made->deadline = transfer.deadline;
    if (copied) {
      deed.scratch.resize(transfer.size_bytes);
      std::byte* at = deed.scratch.data();
      for (Pair& pair : made->pairs) {
        std::memcpy(at, pair.local, pair.remote.size_bytes);
        pair.local = std::exchange(at, at + pair.remote.size_bytes);
      }
      if (deed.corrupt && !deed.scratch.empty()) {
        Spoil(deed.scratch[random_.Below(deed.scratch.size())]);
      }
      if (deed.original == nullptr) {
        made->notification.reset();
      }
    }
    return made;
  }

  void Spoil(std::byte& byte) { byte ^= static_cast<std::byte>(1U << random_.Below(8)); }

  void After(rt::Duration delay, DeedPtr deed) {
    const auto begin = [link = weak_from_this(), deed] {
      const std::shared_ptr<FaultyLink> self = link.lock();
      if (self != nullptr && self->inner_ != nullptr && !deed->over) {
        self->Begin(deed);
      }
    };
    if (delay > rt::Duration(0)) {
      context_.loop.RunAt(context_.loop.Now() + delay, begin);
    } else {
      Begin(deed);
    }
  }

  /// What was begun keeps its deed until its end is told.
  void Begin(const DeedPtr& deed) {
    deed->made->instead = [link = weak_from_this(), deed](Result<void> result) {
      if (const std::shared_ptr<FaultyLink> self = link.lock()) {
        self->Done(deed, std::move(result));
      }
    };
    inner_->Start(deed->made);
  }

  void Done(const DeedPtr& deed, Result<void> result) {
    const rt::Time now = context_.loop.Now();
    if (deed->not_before > now) {
      context_.loop.RunAt(deed->not_before, [link = weak_from_this(), deed, result] {
        if (const std::shared_ptr<FaultyLink> self = link.lock()) {
          self->Tell(deed, result);
        }
      });
    } else {
      Tell(deed, std::move(result));
    }
  }

  void Tell(const DeedPtr& deed, Result<void> result) {
    std::erase(deeds_, deed);
    const TransferPtr original = std::exchange(deed->original, nullptr);
    if (original == nullptr) {
      return;
    }
    if (result && deed->corrupt && original->operation == Operation::kRead &&
        !original->pairs.empty()) {
      const Pair& pair = original->pairs[random_.Below(original->pairs.size())];
      Spoil(pair.local[random_.Below(pair.remote.size_bytes)]);
    }
    context_.Ended(original, std::move(result));
  }

  void Cut() {
    EndAll(Error(Code::kDisconnected, "the link was cut"));
    std::shared_ptr<Link> gone;
    rt::MutexLock lock(mutex_);
    gone = std::exchange(inner_, nullptr);
    context_.loop.Post([gone] {});
  }

  static constexpr std::uint64_t kOwnIds = std::uint64_t{1} << 63U;

  AgentContext& context_;
  FaultOptions options_;
  rt::Random random_;
  std::uint64_t next_id_ = 1;
  std::vector<DeedPtr> deeds_;  // whose end somebody waits for
  mutable rt::Mutex mutex_;     // of what other threads ask for
  rt::Random notify_random_ PX_GUARDED_BY(mutex_){random_.Next()};
  std::shared_ptr<Link> inner_;  // changed by the loop, under the mutex
};

class FaultyTransport final : public Transport {
 public:
  FaultyTransport(AgentContext& context, std::unique_ptr<Transport> inner,
                  const FaultOptions& options)
      : context_(context), inner_(std::move(inner)), options_(options), random_(options.seed) {}

  ~FaultyTransport() override {
    links_.ForEach(
        [](FaultyLink& link) { link.EndAll(Error(Code::kCancelled, "the agent ends")); });
  }

  std::string_view name() const override { return inner_->name(); }

  std::string address() const override { return inner_->address(); }

  bool Fits(std::string_view address) const override { return inner_->Fits(address); }

  std::shared_ptr<Link> Connect(std::string_view address, AgentId peer) override {
    auto link = std::make_shared<FaultyLink>(context_, inner_->Connect(address, peer), options_,
                                             random_.Next());
    links_.Add(link);
    return link;
  }

  bool TakeNotification(Notification& out) override { return inner_->TakeNotification(out); }

  void Forget(RegionKey region) override { inner_->Forget(region); }

 private:
  AgentContext& context_;
  std::unique_ptr<Transport> inner_;
  FaultOptions options_;
  rt::Random random_;
  LinkList<FaultyLink> links_;
};

}  // namespace

TransportFactory WithFaults(TransportFactory inner, FaultOptions options) {
  return [inner = std::move(inner),
          options](AgentContext& context) -> Result<std::unique_ptr<Transport>> {
    PX_TRY(std::unique_ptr<Transport> made, inner(context));
    return std::make_unique<FaultyTransport>(context, std::move(made), options);
  };
}

}  // namespace pixii::transport
