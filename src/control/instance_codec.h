// An instance as it stands in the store: two keys, each a JSON object. docs/formats/discovery.md
//
// Thread: values.
// Keys: v1/instances/{namespace}/{component}/{endpoint}/{id} and v1/mdc/... for the card, id in
// hexadecimal digits; so Dynamo lays them out. Members that a reader does not know it skips.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "control/instance.h"

namespace pixii::control {

/// Routers and others stand in discovery, too; they serve no model.
inline bool IsWorker(const Instance& instance) { return !instance.card.name.empty(); }

/// The id as keys have it: hexadecimal digits without leading zeros.
std::string InstanceName(InstanceId id);

/// Prefix of the keys of all instances of a namespace; of all namespaces if it is empty.
std::string InstancePrefix(std::string_view ns);
std::string CardPrefix(std::string_view ns);

std::string InstanceKey(const Instance& instance);
std::string CardKey(const Instance& instance);

/// Of namespaces, components and endpoints. Errors: kInvalidArgument naming `field`.
Result<void> CheckName(std::string_view field, std::string_view name);

/// Errors: kInvalidArgument naming the field: names of 1 to 64 letters, digits, '-', '_' and '.',
/// an id above 0, an address, at least one rank.
Result<void> CheckInstance(const Instance& instance);

/// "aggregated", "prefill".
std::string_view NameOf(WorkerRole role);

/// The values under the two keys.
std::string EncodeInstance(const Instance& instance);
std::string EncodeCard(const Instance& instance);

/// Errors: kInvalidArgument naming the member.
Result<Instance> DecodeInstance(std::string_view instance_text, std::string_view card_text);

/// What a store says of one instance.
struct SeenInstance {
  InstanceId id{};
  /// Nothing: it is there, but cannot be read, or only half of a change was seen.
  std::optional<Instance> instance;
};

/// Reads views one after the other: what has not changed since the one before is not parsed again,
/// as of many instances mostly one changes.
class InstanceReader final {
 public:
  using Values = std::map<std::string, std::string>;
  using OnUnreadable = std::function<void(const std::string& key, const Error& error)>;

  /// The instances of two views: of InstancePrefix and CardPrefix. Keys that are no instance's are
  /// skipped; `on_unreadable` hears of values that cannot be read, each time.
  std::vector<SeenInstance> Read(const Values& instances, const Values& cards,
                                 const OnUnreadable& on_unreadable);

 private:
  struct Known {
    std::string instance_text;
    std::string card_key;  // empty: the instance cannot be read
    std::optional<std::string> card_text;
    SeenInstance seen;
    std::optional<std::pair<std::string, Error>> unreadable;  // which value, and why
  };

  static Known ReadOne(InstanceId id, const std::string& key, const std::string& text,
                       const Values& cards);

  std::map<std::string, Known> known_;  // by key of the last view's instances
};

}  // namespace pixii::control
