#include "worker/link_adapters.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::worker {

namespace {

// Whoever names an adapter did not say where it lies, and is not told: the log is.
Error ForClients(const Error& error, const std::string& name) {
  const bool is_of_files = error.code() == Code::kNotFound || error.code() == Code::kDataCorrupt ||
                           error.code() == Code::kInvalidArgument ||
                           error.code() == Code::kUnsupported;
  return is_of_files ? Error(error.code(),
                             fmt::format("adapter \"{}\" cannot be read; its worker's log says why",
                                         name.substr(0, 100)),
                             "model")
                     : error;
}

}  // namespace

LinkAdapters::LinkAdapters(rt::Loop& loop, engine::EngineLoop& engine, AdapterLinkOptions options,
                           wire::ModelCard& card)
    : loop_(loop), engine_(engine), options_(std::move(options)), card_(card) {
  for (CatalogueEntry& entry : options_.catalogue) {
    catalogue_.emplace(std::move(entry.name), std::move(entry.source));
  }
  for (const wire::AdapterCard& loaded : card_.adapters) {
    catalogue_.insert_or_assign(loaded.name, loaded.source);
  }
  SetLoaded(std::move(card_.adapters));
  if (options_.read) {
    pool_ = std::make_unique<rt::WorkPool>(loop_, "adapters", 1, kQueueLengthMax);
  }
}

LinkAdapters::~LinkAdapters() { *alive_ = false; }

void LinkAdapters::SetLoaded(std::vector<wire::AdapterCard> loaded) {
  loaded_ = std::move(loaded);
  std::vector<wire::AdapterCard>& cards = card_.adapters;
  cards = loaded_;
  for (const auto& [name, source] : catalogue_) {
    if (std::ranges::none_of(loaded_, [&](const auto& card) { return card.name == name; })) {
      cards.push_back({.name = name, .source = source, .version = {}});
    }
  }
  std::ranges::sort(cards, {}, &wire::AdapterCard::name);
}

const wire::AdapterCard* LinkAdapters::Find(std::string_view name) const {
  auto found = std::ranges::find(card_.adapters, name, &wire::AdapterCard::name);
  return found == card_.adapters.end() ? nullptr : &*found;
}

bool LinkAdapters::MustLoad(std::string_view name) const {
  const wire::AdapterCard* card = Find(name);
  return card != nullptr && !card->is_loaded();
}

Result<void> LinkAdapters::Check(const wire::LoadAdapterRequest& request) const {
  if (!pool_) {
    return Fail(Code::kUnsupported, "this worker loads no adapters", "lora_name");
  }
  if (request.name == card_.name) {
    return Fail(Code::kInvalidArgument,
                fmt::format("\"{}\" is the model's own name", request.name.substr(0, 100)),
                "lora_name");
  }
  const wire::AdapterCard* card = Find(request.name);
  if (!request.replace && card != nullptr && card->is_loaded()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the adapter \"{}\" is loaded already", request.name.substr(0, 100)),
                "lora_name");
  }
  if (card == nullptr && catalogue_.size() >= kCatalogueSizeMax) {
    return Fail(
        Code::kResourceExhausted,
        fmt::format("{} adapters are known, which is the limit; unload some", kCatalogueSizeMax),
        "lora_name");
  }
  return {};
}

void LinkAdapters::Load(wire::LoadAdapterRequest request, Handler on_done) {
  if (Result<void> checked = Check(request); !checked) {
    on_done(Fail(checked.error()));
    return;
  }
  Read(std::move(request), std::move(on_done));
}

void LinkAdapters::Read(wire::LoadAdapterRequest request, Handler on_done) {
  using Weights = std::shared_ptr<const engine::AdapterWeights>;

  struct Job {
    wire::LoadAdapterRequest request;
    Handler on_done;
    Result<Weights> weights = Fail(Code::kInternal, "not read");
  };

  auto job = std::make_shared<Job>();
  job->request = std::move(request);
  job->on_done = std::move(on_done);
  bool taken = pool_->Submit(
      [job, read = options_.read] { job->weights = read(job->request.source); },
      [this, job] {
        if (!job->weights) {
          job->on_done(Fail(job->weights.error()));
          return;
        }
        std::string name = job->request.name;
        engine_.LoadAdapter(
            name, std::move(*job->weights), job->request.pinned,
            Reply([this, name, source = job->request.source,
                   on_done = std::move(job->on_done)](const Result<void>& done) {
              const wire::AdapterCard* card = Find(name);
              if (done && card != nullptr) {
                catalogue_.insert_or_assign(name, source);
                on_done(*card);
              } else {
                on_done(Fail(done ? Error(Code::kNotFound, "unloaded meanwhile", "lora_name")
                                  : done.error()));
              }
            }));
      });
  if (!taken) {
    job->on_done(Fail(Code::kResourceExhausted,
                      fmt::format("{} adapters wait to be read; try again later", kQueueLengthMax),
                      "lora_name"));
  }
}

void LinkAdapters::Unload(std::string name, Handler on_done) {
  const wire::AdapterCard* card = Find(name);
  if (card == nullptr) {
    on_done(Fail(Code::kNotFound, fmt::format("no adapter \"{}\" is loaded", name.substr(0, 100)),
                 "lora_name"));
    return;
  }
  wire::AdapterCard had = *card;
  catalogue_.erase(name);  // else the next request would bring it back
  SetLoaded(std::exchange(loaded_, {}));
  if (!had.is_loaded()) {
    on_done(std::move(had));
    return;
  }
  engine_.UnloadAdapter(std::move(name), Reply([on_done = std::move(on_done),
                                                had = std::move(had)](const Result<void>& done) {
                          if (done) {
                            on_done(had);
                          } else {
                            on_done(Fail(done.error()));
                          }
                        }));
}

/// Brings what the engine says to this loop.
engine::AdapterReply LinkAdapters::Reply(std::function<void(Result<void>)> then) {
  return [this, &loop = loop_, alive = alive_,
          then = std::move(then)](Result<std::vector<wire::AdapterCard>> loaded) mutable {
    loop.Post([this, alive = std::move(alive), then = std::move(then),
               loaded = std::move(loaded)]() mutable {
      if (!*alive) {
        return;
      }
      if (!loaded) {
        then(Fail(loaded.error()));
        return;
      }
      SetLoaded(std::move(*loaded));
      then({});
    });
  };
}

void LinkAdapters::WhenLoaded(const std::string& name, Waiter waiter) {
  std::vector<Waiter>& waiters = waiting_[name];
  waiters.push_back(std::move(waiter));
  if (waiters.size() > 1) {
    return;
  }
  auto told = [this, name](const Result<wire::AdapterCard>& card) {
    for (Waiter& each : std::exchange(waiting_[name], {})) {
      each(card ? Result<void>() : Result<void>(Fail(card.error())));
    }
    if (waiting_[name].empty()) {
      waiting_.erase(name);
    }
  };
  auto entry = catalogue_.find(name);
  if (entry == catalogue_.end() || !pool_) {
    told(Fail(Code::kNotFound, fmt::format("no adapter \"{}\" is loaded", name.substr(0, 100)),
              "model"));
    return;
  }
  Read({.name = name, .source = entry->second},
       [told, name](const Result<wire::AdapterCard>& card) {
         told(card ? card : Result<wire::AdapterCard>(Fail(ForClients(card.error(), name))));
       });
}

}  // namespace pixii::worker
