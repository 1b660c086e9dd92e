// pixii scale: the other end of a planner whose environment is "virtual": waits for decisions and
// says when they are done, for scripts that start and end workers in a way of their own.
#include <fmt/format.h>

#include <charconv>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "control/scale_keeper.h"

namespace pixii::apps {

namespace {

class Scaling final {
 public:
  explicit Scaling(ScaleFlags flags) : flags_(std::move(flags)) {}

  /// `complete`: the decision that is done; nothing: waits for one.
  Result<int> Run(std::optional<std::int64_t> complete) {
    ProcessFlags process_flags;
    process_flags.log_level = "warn";
    PX_CHECK_OK(process_.Open(process_flags, {.dump = [] {},
                                              .reload = {},
                                              .drain =
                                                  [this] {
                                                    End(kExitFailed);
                                                    return true;
                                                  }}));
    PX_TRY(store_, OpenStore(process_, flags_));
    complete_ = complete;
    doer_.emplace(*store_, flags_.ns, [this](const control::ScaleOrder& order) { OnOrder(order); });
    process_.loop().RunAt(process_.loop().Now() + rt::Duration(flags_.timeout), [this] {
      SayError("pixii: no planner of namespace {} {} within the time\n", flags_.ns,
               complete_ ? "took that" : "decided anything newer");
      End(kExitNotSo);
    });
    process_.loop().Run();
    doer_.reset();
    store_.reset();
    return exit_;
  }

 private:
  void OnOrder(const control::ScaleOrder& order) {
    if (!complete_) {
      if (order.decision > flags_.after) {
        Say("{}\n", control::EncodeScaleOrder(order));
        End(kExitDone);
      }
      return;
    }
    if (order.done >= *complete_) {
      End(kExitDone);
      return;
    }
    if (!said_) {
      said_ = true;
      // Of an older decision than the planner's last one nobody says here what it was.
      (void)doer_->Say({.decision = *complete_,
                        .counts = order.decision == *complete_ ? order.counts
                                                               : std::vector<control::ScaleCount>(),
                        .error = {}});
    }
  }

  void End(int exit) {
    if (!ending_) {
      ending_ = true;
      exit_ = exit;
      store_->Close([this] { process_.loop().Stop(); });
    }
  }

  ScaleFlags flags_;
  ProcessUnit process_;
  std::unique_ptr<control::LeaseStore> store_;
  std::optional<control::ScaleDoer> doer_;
  std::optional<std::int64_t> complete_;
  bool said_ = false;
  bool ending_ = false;
  int exit_ = kExitFailed;
};

Result<std::optional<std::int64_t>> ReadVerb(const std::vector<std::string>& words) {
  if (words[0] == "wait" && words.size() == 1) {
    return std::optional<std::int64_t>();
  }
  std::int64_t id = 0;
  if (words[0] == "complete" && words.size() == 2) {
    const char* const end = words[1].data() + words[1].size();
    if (std::from_chars(words[1].data(), end, id) == std::from_chars_result{end, std::errc()} &&
        id > 0) {
      return std::optional(id);
    }
  }
  return Fail(Code::kInvalidArgument, "pixii scale takes wait, or complete ID", "VERB");
}

}  // namespace

int RunScale(const Arguments& arguments) {
  ScaleFlags flags;
  config::Command command;
  command.name = "scale";
  command.summary = "Waits for a planner's decisions and says when they are done.";
  command.positionals = {
      {.name = "VERB", .help = "wait or complete", .required = true, .repeated = false},
      {.name = "ID", .help = "of the decision that is done", .required = false, .repeated = false}};
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  const Result<std::optional<std::int64_t>> complete = ReadVerb(parsed.positionals);
  if (!complete) {
    return Complain(complete.error());
  }
  Result<int> done = Scaling(std::move(flags)).Run(*complete);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
