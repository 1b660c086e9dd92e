// Arithmetic on sizes that come from files and peers: overflow is a value, never wrap-around.
#pragma once

#include <optional>
#include <type_traits>

namespace pixii {

template <class T>
std::optional<T> CheckedMul(T a, std::type_identity_t<T> b) {
  T out;
  if (__builtin_mul_overflow(a, b, &out)) {
    return std::nullopt;
  }
  return out;
}

template <class T>
std::optional<T> CheckedAdd(T a, std::type_identity_t<T> b) {
  T out;
  if (__builtin_add_overflow(a, b, &out)) {
    return std::nullopt;
  }
  return out;
}

template <class T>
constexpr T CeilDiv(T a, std::type_identity_t<T> b) {
  return (a + b - 1) / b;
}

}  // namespace pixii
