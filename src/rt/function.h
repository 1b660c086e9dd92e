// A move-only callable: what std::function cannot hold (unique owners), without an allocation up to
// 48 bytes.
//
// Thread: a value.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/assert.h"

namespace pixii::rt {

template <class Signature>
class Function;

template <class R, class... Args>
class Function<R(Args...)> final {
 public:
  static constexpr std::size_t kInlineSizeBytes = 48;

  Function() = default;

  Function(std::nullptr_t) {}  // NOLINT(google-explicit-constructor)

  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Function> &&
             std::is_invocable_r_v<R, std::remove_cvref_t<F>&, Args...>)
  Function(F&& callable) {  // NOLINT(google-explicit-constructor): lambdas convert as they do to
                            // std::function
    using Callable = std::remove_cvref_t<F>;
    if constexpr (kFitsInline<Callable>) {
      std::construct_at(reinterpret_cast<Callable*>(storage_), std::forward<F>(callable));
    } else {
      Callable* owned = std::make_unique<Callable>(std::forward<F>(callable)).release();
      std::construct_at(reinterpret_cast<Callable**>(storage_), owned);
    }
    operations_ = &kOperationsFor<Callable>;
  }

  Function(Function&& other) noexcept { MoveFrom(other); }

  Function& operator=(Function&& other) noexcept {
    if (this != &other) {
      Reset();
      MoveFrom(other);
    }
    return *this;
  }

  Function(const Function&) = delete;
  Function& operator=(const Function&) = delete;

  ~Function() { Reset(); }

  explicit operator bool() const { return operations_ != nullptr; }

  /// Pre: not empty.
  R operator()(Args... args) const {
    PX_ASSERT(operations_ != nullptr);
    return operations_->call(storage_, std::forward<Args>(args)...);
  }

 private:
  struct Operations {
    R (*call)(std::byte* storage, Args&&... args);
    void (*move)(std::byte* from, std::byte* to) noexcept;  // destroys what it leaves
    void (*destroy)(std::byte* storage) noexcept;
  };

  template <class F>
  static constexpr bool kFitsInline =
      sizeof(F) <= kInlineSizeBytes && alignof(F) <= alignof(std::max_align_t) &&
      std::is_nothrow_move_constructible_v<F>;

  template <class F>
  static F& Stored(std::byte* storage) {
    if constexpr (kFitsInline<F>) {
      return *reinterpret_cast<F*>(storage);
    } else {
      return **reinterpret_cast<F**>(storage);
    }
  }

  template <class F>
  static constexpr Operations kOperationsFor = {
      .call = [](std::byte* storage, Args&&... args) -> R {
        return static_cast<R>(Stored<F>(storage)(std::forward<Args>(args)...));
      },
      .move =
          [](std::byte* from, std::byte* to) noexcept {
            if constexpr (kFitsInline<F>) {
              F& source = Stored<F>(from);
              std::construct_at(reinterpret_cast<F*>(to), std::move(source));
              std::destroy_at(&source);
            } else {
              std::construct_at(reinterpret_cast<F**>(to), *reinterpret_cast<F**>(from));
            }
          },
      .destroy =
          [](std::byte* storage) noexcept {
            if constexpr (kFitsInline<F>) {
              std::destroy_at(&Stored<F>(storage));
            } else {
              std::default_delete<F>()(*reinterpret_cast<F**>(storage));
            }
          },
  };

  void MoveFrom(Function& other) noexcept {
    operations_ = std::exchange(other.operations_, nullptr);
    if (operations_ != nullptr) {
      operations_->move(other.storage_, storage_);
    }
  }

  void Reset() noexcept {
    if (const Operations* operations = std::exchange(operations_, nullptr)) {
      operations->destroy(storage_);
    }
  }

  alignas(std::max_align_t) mutable std::byte storage_[kInlineSizeBytes];
  const Operations* operations_ = nullptr;
};

}  // namespace pixii::rt
