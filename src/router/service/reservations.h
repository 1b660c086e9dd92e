// What was chosen and reserved under names that clients give: for those who send requests
// themselves.
//
// Thread: one loop. docs/router_service.md
// A reservation of which nothing is heard for the router's request expiry is over; each word about
// it is a sign of life.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/result.h"
#include "router/service/pool.h"
#include "rt/loop.h"

namespace pixii::router {

struct ReservationsOptions {
  rt::Duration selection_ttl = std::chrono::seconds(120);  // of a choice that was not reserved
  std::size_t selections_max = 4096;                       // of those; the oldest goes first
  std::size_t reserved_max = 65'536;                       // that wait or run
};

/// What was chosen for a request.
struct Chosen {
  std::string selection;
  Placement placement;
};

class Reservations final {
 public:
  static constexpr std::size_t kNameBytesMax = 256;

  using ChosenHandler = std::function<void(Result<Chosen>)>;

  Reservations(rt::Loop& loop, PoolBook& pools, ReservationsOptions options);

  Reservations(const Reservations&) = delete;
  Reservations& operator=(const Reservations&) = delete;
  ~Reservations();

  /// `selection` empty: a name is made. With `reserve` it counts from now on; without, it is
  /// remembered for Reserve, if it was named. `on_chosen` is called once, in this call or later,
  /// unless Free comes before. Returns the name. Errors: kInvalidArgument if it is reserved or too
  /// long, kResourceExhausted.
  Result<std::string> Select(Pool& pool, std::string selection, RouteRequest request, bool reserve,
                             ChosenHandler on_chosen);

  /// What Select chose under this name counts from now on. Errors: kNotFound; kUnavailable if its
  /// worker is gone; kInvalidArgument if it is reserved; kResourceExhausted.
  Result<Chosen> Reserve(const Pool& pool, const std::string& selection);

  /// It runs there. Errors: kInvalidArgument if the name is reserved or too long, kNotFound for the
  /// rank, kResourceExhausted.
  Result<void> Place(Pool& pool, std::string selection, const Placement& placement);

  // Errors of all: kNotFound.
  Result<void> OnPrefillDone(const std::string& selection);
  Result<void> OnOutputBlock(const std::string& selection, double weight);
  Result<void> Free(const std::string& selection);

  std::size_t reserved_count() const { return reserved_.size(); }

 private:
  struct Reserved {
    Pool* pool = nullptr;
    RequestId request{};
  };

  struct Remembered {
    Pool* pool = nullptr;
    Placement placement;
    std::uint64_t number = 0;
  };

  Result<void> CheckNew(const std::string& selection) const;
  void Watch(Pool& pool);
  void Drop(const Pool& pool);
  void Keep(Pool& pool, const std::string& selection, RequestId request);
  void Remember(Pool& pool, const std::string& selection, const Placement& placement);
  void Expire();
  void OnFreed(const Pool& pool, RequestId request);

  rt::Loop& loop_;
  PoolBook& pools_;
  ReservationsOptions options_;
  std::unordered_map<std::string, Reserved> reserved_;
  std::map<std::pair<const Pool*, RequestId>, std::string> names_;
  std::unordered_map<std::string, Remembered> remembered_;
  std::deque<std::pair<rt::Time, std::pair<std::string, std::uint64_t>>> oldest_;
  std::uint64_t last_number_ = 0;
};

}  // namespace pixii::router
