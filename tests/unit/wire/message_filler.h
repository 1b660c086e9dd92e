// Messages in which every field has a value, for tests of the codec.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "wire/messages/fields.h"

namespace pixii::wire {

// Gives every field of a message a value that is not its default, whatever its type.
class Filler {
 public:
  template <class T>
  void Fill(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      value = !value;
    } else if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(1);
    } else if constexpr (std::is_floating_point_v<T>) {
      value += 0.25F + static_cast<T>(++count_);
    } else if constexpr (std::is_integral_v<T>) {
      value += static_cast<T>(++count_ % 100 + 1);
    } else if constexpr (std::is_same_v<T, std::string>) {
      value = std::string("\xFF\x00 text", 7) + std::to_string(++count_);
    } else if constexpr (std::is_same_v<T, Error>) {
      value = Error(Code::kTooLarge, "detail", "param");
    } else {
      FillParts(value);
    }
  }

 private:
  template <class T>
  void FillParts(std::vector<T>& items) {
    for (int i = 0; i < 3; ++i) {
      T item{};
      Fill(item);
      items.push_back(std::move(item));
    }
  }

  template <class T>
  void FillParts(std::optional<T>& value) {
    if constexpr (std::is_same_v<T, Error>) {
      value = Error(Code::kTooLarge, "detail", "param");
    } else {
      Fill(value.emplace());
    }
  }

  template <class A, class B>
  void FillParts(std::pair<A, B>& value) {
    Fill(value.first);
    Fill(value.second);
  }

  template <class Message>
    requires(!std::is_same_v<decltype(kFields<Message>), const std::nullptr_t>)
  void FillParts(Message& message) {
    std::apply([&](const auto&... field) { (Fill(message.*(field.member)), ...); },
               kFields<Message>);
  }

  int count_ = 0;
};

using Messages =
    ::testing::Types<GenerateRequest, TokenFrame, CancelRequest, ModelCard, AdapterCard,
                     LoadAdapterRequest, WorkerReport, KvEvent, KvEventsRequest, KvEventBatch,
                     MemoryRequest, AdapterName, ModelFiles, MuxHello, MuxCall, RouteBatch,
                     RouteAnswers, ReplicaMessage, HandoverRecord, HandoverNote, FeatureRecord>;

}  // namespace pixii::wire
