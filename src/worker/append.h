// The elements of one vector behind those of another.
//
// Thread: a function.
#pragma once

#include <iterator>
#include <vector>

namespace pixii::worker {

/// Moves them; `from` is to be used no more.
template <class T>
void Append(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace pixii::worker
