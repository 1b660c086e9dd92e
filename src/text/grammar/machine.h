// What every kind of grammar is at run time: an automaton over bytes whose places are a few words.
//
// Thread: one owner. Places are made as they are met and stay valid while the machine lives.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>

#include "text/grammar/regex_store.h"

namespace pixii::text::grammar {

/// State::text of a value that was told apart from all that it is compared with.
inline constexpr std::uint32_t kFreshText = 0xFFFFFFFF;

/// A place in a grammar. Only the machine that made it can read it.
struct State {
  std::uint32_t frame = 0;  // enclosing values
  std::uint32_t a = 0;      // by phase
  std::uint32_t b = 0;
  std::uint32_t c = 0;
  std::uint32_t text = 0;   // what is remembered of the value being written; kFreshText: nothing
  std::uint32_t phase = 0;  // 0: dead
  std::uint32_t outer = 0;  // place in what stands around, 0 if nothing does

  friend bool operator==(const State&, const State&) = default;
};

/// Bytes that a place takes without anything changing that matters to a single token.
struct Run {
  std::uint32_t classes = 0;    // ByteClass bits; 0: none
  std::uint32_t chars_max = 0;  // characters, no more are taken; kUnbounded: any number
  bool same = false;            // the place stays the very same; else it counts or remembers them
};

/// How a place takes characters of some kinds, in any order.
struct Safe {
  std::uint32_t chars = 0;   // surely so many; kUnbounded: any number
  std::uint32_t next = ~0U;  // kinds of what may follow the first of them
};

using ByteSet = std::bitset<256>;

/// A place that takes nearly the tokens that another does.
struct Free {
  State state;
  std::uint32_t chars_max = kUnbounded;  // tokens of more characters may differ
  bool by_text = false;                  // so may those on the ways that Apart tells
};

class Machine {
 public:
  Machine() = default;
  virtual ~Machine() = default;

  virtual std::unique_ptr<Machine> Clone() const = 0;

  virtual State Start() = 0;

  /// Before an instance of one of several roots, where a machine has them.
  virtual State StartOf(std::uint32_t root) {
    (void)root;
    return Start();
  }

  /// Moves over one byte. False: not allowed, and `state` is worthless.
  virtual bool Step(State& state, std::uint8_t byte) = 0;
  virtual bool CanEnd(const State& state) = 0;

  virtual Run RunOf(const State& state) = 0;
  /// Of the kinds SliceClasses()[slice]. `next` speaks of all those characters, if they are
  /// unbounded, else of kMixedPrefixMax.
  virtual Safe SafeOf(const State& state, std::uint32_t slice);
  /// A place whose mask is nearly the same and more often known.
  virtual bool Loosen(const State& state, Free& free);
  /// Bytes after which what follows may not be as on the same way from the place that Loosen gave
  /// for `from`, where the way began.
  virtual ByteSet Apart(const State& state, const State& from);

  /// What is remembered since a mark may be forgotten: states made since then are worthless.
  virtual std::size_t Mark() const { return 0; }

  virtual void Release(std::size_t mark) { (void)mark; }

  /// What one call may cost; what all may keep.
  virtual Fuel& fuel() = 0;
  /// Bytes kept, about.
  virtual std::size_t size_bytes() const = 0;

 protected:
  Machine(const Machine&) = default;
  Machine& operator=(const Machine&) = default;
};

}  // namespace pixii::text::grammar
