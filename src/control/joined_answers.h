// What several workers say, as if one had said it.
//
// Thread: one loop.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "control/worker_link.h"

namespace pixii::control {

/// Calls `then` once all answers are here, with them in order; for a count of 0 never.
template <class T>
class JoinedAnswers final : public std::enable_shared_from_this<JoinedAnswers<T>> {
 public:
  using Then = std::function<void(std::vector<Result<T>>)>;

  JoinedAnswers(std::size_t count, Then then) : left_(count), then_(std::move(then)) {
    answers_.resize(count, Fail(Code::kInternal, "no answer"));
  }

  /// For one answer; it keeps this alive.
  std::function<void(Result<T>)> At(std::size_t index) {
    return [self = this->shared_from_this(), index](Result<T> answer) {
      self->answers_[index] = std::move(answer);
      if (--self->left_ == 0) {
        self->then_(std::move(self->answers_));
      }
    };
  }

 private:
  std::size_t left_;
  std::vector<Result<T>> answers_;
  Then then_;
};

/// nullptr: none failed.
template <class T>
const Result<T>* FirstFailure(const std::vector<Result<T>>& answers) {
  const auto failed = std::ranges::find_if(answers, [](const auto& answer) { return !answer; });
  return failed == answers.end() ? nullptr : &*failed;
}

/// Hands on the first failure, or that there was none.
inline JoinedAnswers<void>::Then AllOrFirstFailure(WorkerLink::MemoryHandler on_done) {
  return [on_done = std::move(on_done)](const std::vector<Result<void>>& answers) {
    const Result<void>* failure = FirstFailure(answers);
    on_done(failure == nullptr ? Result<void>() : *failure);
  };
}

/// All but the state, of a load by whatever type it has these.
template <class Load>
void AddLoad(const Load& one, Load& sum) {
  sum.running += one.running;
  sum.queued += one.queued;
  sum.blocks_used += one.blocks_used;
  sum.blocks_cached += one.blocks_cached;
  sum.blocks_total += one.blocks_total;
  sum.steps += one.steps;
}

}  // namespace pixii::control
