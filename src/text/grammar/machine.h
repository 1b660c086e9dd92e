// What every kind of grammar is at run time: an automaton over bytes whose places are a few words.
//
// Thread: one owner. Places are made as they are met and stay valid while the machine lives.
#pragma once

#include <cstdint>
#include <memory>

#include "text/grammar/regex_store.h"

namespace pixii::text::grammar {

/// A place in a grammar. Only the machine that made it can read it.
struct State {
  std::uint32_t frame = 0;  // enclosing values
  std::uint32_t a = 0;      // by phase
  std::uint32_t b = 0;
  std::uint32_t c = 0;
  std::uint32_t text = 0;   // what is remembered of the value being written
  std::uint32_t phase = 0;  // 0: dead

  friend bool operator==(const State&, const State&) = default;
};

/// Bytes that a place takes without anything changing that matters to a single token.
struct Run {
  std::uint32_t classes = 0;    // ByteClass bits; 0: none
  std::uint32_t chars_max = 0;  // characters, kUnbounded: any number
  bool same = false;            // the place stays the very same; else it only counts them
  bool remembered = false;      // what was written matters to what may follow
};

class Machine {
 public:
  Machine() = default;
  virtual ~Machine() = default;

  virtual std::unique_ptr<Machine> Clone() const = 0;

  virtual State Start() = 0;
  /// Moves over one byte. False: not allowed, and `state` is worthless.
  virtual bool Step(State& state, std::uint8_t byte) = 0;
  virtual bool CanEnd(const State& state) = 0;

  virtual Run RunOf(const State& state) = 0;
  /// If the place takes what `free` takes but for bytes that begin one of a few names, `free`.
  virtual bool Loosen(const State& state, State& free);
  /// The place is past these names: what follows is as behind `free`.
  virtual bool IsFree(const State& state);

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

inline bool Machine::Loosen(const State& state, State& free) {
  (void)state;
  (void)free;
  return false;
}

inline bool Machine::IsFree(const State& state) {
  (void)state;
  return false;
}

}  // namespace pixii::text::grammar
