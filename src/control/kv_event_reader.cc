#include "control/kv_event_reader.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace pixii::control {

namespace {

bool HasRanks(const wire::KvEventBatch& batch) {
  return std::ranges::all_of(batch.events, [](const wire::KvEvent& event) {
    return event.rank < KvEventReader::kRankCountMax;
  });
}

// Events in a row up to next_id.
bool IsRow(const wire::KvEventBatch& batch) {
  if (batch.dump || batch.dump_begins || batch.dump_ends || batch.events.size() > batch.next_id) {
    return false;
  }
  std::uint64_t id = batch.next_id - batch.events.size();
  return std::ranges::all_of(batch.events,
                             [&](const wire::KvEvent& event) { return event.id == id++; });
}

}  // namespace

// False: something before these is missing. What is below was heard already.
bool KvEventReader::Take(std::vector<wire::KvEvent>& events, std::vector<wire::KvEvent>& heard) {
  for (wire::KvEvent& event : events) {
    if (event.id > next_id_) {
      return false;
    }
    if (event.id == next_id_) {
      ++next_id_;
      ranks_.insert(event.rank);
      heard.push_back(std::move(event));
    }
  }
  return true;
}

bool KvEventReader::OnAnswer(wire::KvEventBatch batch, std::vector<wire::KvEvent>& heard) {
  if (!HasRanks(batch)) {
    ++counters_.gaps;
    return false;
  }
  if (batch.dump_begins) {
    epoch_ = batch.epoch;
    next_id_ = wanted_id_ = batch.next_id;
    complete_ = false;
    ranks_.insert(0);  // somebody is told, even if nothing was heard yet
    for (const std::uint32_t rank : ranks_) {
      wire::KvEvent& cleared = heard.emplace_back();
      cleared.kind = wire::KvEvent::Kind::kCleared;
      cleared.id = batch.next_id;
      cleared.rank = rank;
    }
  }
  bool good = batch.epoch == epoch_ && complete_ != batch.dump;
  if (good && batch.dump) {
    for (const wire::KvEvent& event : batch.events) {
      ranks_.insert(event.rank);
    }
    std::ranges::move(batch.events, std::back_inserter(heard));
    complete_ = batch.dump_ends;
  } else if (good) {
    good = Take(batch.events, heard);
  }
  counters_.gaps += good ? 0 : 1;
  return good;
}

bool KvEventReader::OnPlane(wire::KvEventBatch batch, rt::Time now,
                            std::vector<wire::KvEvent>& heard) {
  if (!HasRanks(batch) || !IsRow(batch)) {
    return false;
  }
  if (batch.epoch != epoch_) {
    return true;  // of another start of the worker, or nobody's: it is asked if this goes on
  }
  plane_heard_ = true;
  plane_heard_at_ = now;
  const std::size_t before = heard.size();
  if (complete_) {
    (void)Take(batch.events, heard);  // what it could not take is seen below
  }
  counters_.plane_events += heard.size() - before;
  if (batch.next_id > next_id_) {
    counters_.plane_gaps += complete_ && wanted_id_ <= next_id_ ? 1 : 0;
    wanted_id_ = std::max(wanted_id_, batch.next_id);
  }
  return true;
}

}  // namespace pixii::control
