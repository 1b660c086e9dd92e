// Who of several equal processes acts: the one that holds a Lease.
//
// Thread: values; pure: told of the Lease as it was read and of the time.
// The rules are those of client-go's leader election, as "Leases" and its package comment say them:
// a Lease counts by the reader's own clock, from when it was last seen to change; a leader that
// could not renew for `renew_deadline` leads no more, before anybody else can; every write is
// guarded by the resource version. Clocks of the day do not matter, rates must agree by
// duration / renew_deadline.
#pragma once

#include <optional>
#include <string>

#include "control/kube_objects.h"
#include "rt/time.h"
#include "wire/json.h"

namespace pixii::control {

struct ElectionOptions {
  std::string name = "pixii-operator";  // of the Lease
  std::string identity;                 // of this process, of one start
  rt::Duration duration = std::chrono::seconds(15);
  rt::Duration renew_deadline = std::chrono::seconds(10);
  rt::Duration retry = std::chrono::seconds(2);
};

class KubeElection final {
 public:
  explicit KubeElection(ElectionOptions options) : options_(std::move(options)) {}

  struct Write {
    bool creates = false;
    wire::Json object;
  };

  /// The Lease was read, or (null) is not there. Returns what to write: to take it or to hold it;
  /// nothing: somebody else has it.
  std::optional<Write> OnRead(const wire::Json* lease, rt::Time now, rt::WallTime wall);

  /// What was asked for was written; `begun_at`: when that was sent, or before.
  void OnWritten(rt::Time begun_at) { held_since_ = begun_at; }

  /// Somebody else wrote first.
  void OnLost() { held_since_.reset(); }

  bool Leads(rt::Time now) const {
    return held_since_ && now < *held_since_ + options_.renew_deadline;
  }

  /// When this ends unless it is renewed. Pre: Leads.
  rt::Time leads_until() const { return *held_since_ + options_.renew_deadline; }

  /// What gives the Lease back, so that others need not wait; nothing unless `lease` is ours.
  std::optional<wire::Json> Release(const wire::Json& lease, rt::WallTime wall) const;

  const ElectionOptions& options() const { return options_; }

 private:
  ElectionOptions options_;
  std::string seen_;  // holder and renewal, as last read
  rt::Time changed_at_{};
  std::optional<rt::Time> held_since_;
};

}  // namespace pixii::control
