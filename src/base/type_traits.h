// Which templates a type is made of, for code that walks over the fields of messages.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace pixii {

template <class T>
struct IsVector : std::false_type {};

template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

template <class T>
struct IsOptional : std::false_type {};

template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

template <class T>
struct IsPair : std::false_type {};

template <class A, class B>
struct IsPair<std::pair<A, B>> : std::true_type {};

}  // namespace pixii
