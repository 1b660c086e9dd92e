#include "sim/blame.h"

#include <fmt/format.h>

#include <algorithm>
#include <ranges>
#include <set>

namespace pixii::sim {

namespace {

constexpr std::uint64_t kUnlimited = 1'000'000;  // disruptions

}  // namespace

std::size_t Blame::AddWorker(rt::Time now, bool answers) {
  workers_.push_back({.answers = answers, .begin = now});
  open_.resize(workers_.size() * options_.frontend_count);
  for (std::size_t frontend = 0; frontend < options_.frontend_count; ++frontend) {
    Disturb("start", workers_.size() - 1, frontend, Kind::kJoining, now, now);
  }
  return workers_.size() - 1;
}

void Blame::RemoveWorker(std::size_t worker, rt::Time now) {
  workers_[worker].end = std::min(workers_[worker].end, now);
}

void Blame::Disturb(std::string_view fault, std::size_t worker, std::size_t frontend, Kind kind,
                    rt::Time now, rt::Time until) {
  open_[worker * options_.frontend_count + frontend].push_back(++last_trouble_);
  troubles_.emplace(last_trouble_, Trouble{.fault = std::string(fault),
                                           .worker = worker,
                                           .frontend = frontend,
                                           .kind = kind,
                                           .begin = now,
                                           .until = until});
}

void Blame::Forget(rt::Time before) {
  std::erase_if(troubles_, [&](const auto& one) { return one.second.end < before; });
}

// A trouble ends when the worker is used again, or is gone and not used any more.
std::string Blame::See(std::size_t worker, std::size_t frontend, bool used, rt::Time now) {
  const bool gone = workers_[worker].end <= now;
  std::vector<std::uint64_t>& open = open_[worker * options_.frontend_count + frontend];
  const bool explained = !open.empty();
  std::erase_if(open, [&](std::uint64_t number) {
    Trouble& trouble = troubles_.at(number);
    // Who joins takes nothing away: nothing comes of it later.
    const rt::Duration settle =
        trouble.kind == Kind::kJoining ? rt::Duration::zero() : options_.settle;
    const bool over = used != gone && now >= trouble.until + settle;
    trouble.end = over ? now : rt::kNever;
    return over;
  });
  if (used || gone || explained) {
    return {};
  }
  return fmt::format("frontend {} does not use worker {}, and nothing happened to it", frontend,
                     worker);
}

void Blame::RestartFrontend(std::size_t frontend, rt::Time now) {
  for (std::size_t worker = 0; worker < workers_.size(); ++worker) {
    if (workers_[worker].end == rt::kNever) {
      Disturb("frontend_restart", worker, frontend, Kind::kJoining, now, now);
    }
  }
}

bool Blame::IsDisturbed(std::size_t worker, std::size_t frontend, rt::Time begin,
                        rt::Time end) const {
  return std::ranges::any_of(std::views::values(troubles_), [&](const Trouble& trouble) {
    return trouble.worker == worker && trouble.frontend == frontend && trouble.Overlaps(begin, end);
  });
}

bool Blame::Hears(std::size_t worker, std::size_t frontend, rt::Time begin, rt::Time end,
                  std::initializer_list<std::string_view> besides) const {
  return std::ranges::none_of(std::views::values(troubles_), [&](const Trouble& trouble) {
    return trouble.worker == worker && trouble.frontend == frontend &&
           trouble.Overlaps(begin, end) &&
           std::ranges::find(besides, trouble.fault) == besides.end();
  });
}

bool Blame::WasHit(std::size_t worker, rt::Time begin, rt::Time end) const {
  return std::ranges::any_of(std::views::values(troubles_), [&](const Trouble& trouble) {
    return trouble.worker == worker && trouble.kind != Kind::kJoining &&
           trouble.Overlaps(begin, end);
  });
}

bool Blame::NobodyServes(std::size_t frontend, rt::Time at) const {
  for (std::size_t worker = 0; worker < workers_.size(); ++worker) {
    if (workers_[worker].answers && workers_[worker].begin <= at && workers_[worker].end > at &&
        !IsDisturbed(worker, frontend, at, at)) {
      return false;
    }
  }
  return true;
}

// It can only begin when something does.
bool Blame::Outage(std::size_t frontend, rt::Time begin, rt::Time end) const {
  if (NobodyServes(frontend, begin)) {
    return true;
  }
  return std::ranges::any_of(std::views::values(troubles_), [&](const Trouble& trouble) {
    return trouble.frontend == frontend && trouble.begin >= begin && trouble.begin <= end &&
           NobodyServes(frontend, trouble.begin);
  });
}

std::uint64_t Blame::DisruptionCount(std::size_t frontend, rt::Time begin, rt::Time end) const {
  std::uint64_t count = 0;
  for (const auto& [number, trouble] : troubles_) {
    if (trouble.frontend == frontend && trouble.kind != Kind::kJoining &&
        trouble.Overlaps(begin, end)) {
      count += trouble.kind == Kind::kRepeatedly ? kUnlimited
               : trouble.kind == Kind::kTwice    ? 2
                                                 : 1;
    }
  }
  return count;
}

std::string Blame::Explain(std::string_view code, std::size_t frontend, rt::Time begin,
                           rt::Time end, std::uint64_t refusals) const {
  const std::uint64_t disruptions = DisruptionCount(frontend, begin, end);
  bool explained = false;
  if (code == "unavailable") {
    explained = disruptions + refusals > options_.moves_max || Outage(frontend, begin, end);
  } else if (code == "disconnected" || code == "shutting_down") {
    explained = disruptions > 0 && disruptions + refusals > options_.moves_max;
  } else if (code == "request_poisoned") {
    explained = disruptions >= options_.deaths_max;
  }
  if (!explained) {
    return {};
  }
  std::set<std::string_view> names;
  for (const auto& [number, trouble] : troubles_) {
    if (trouble.frontend == frontend && trouble.Overlaps(begin, end)) {
      names.insert(trouble.fault);
    }
  }
  return names.empty() ? "no worker" : fmt::format("{}", fmt::join(names, "+"));
}

}  // namespace pixii::sim
