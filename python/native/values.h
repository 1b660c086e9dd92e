// Values of Python's as ours, with a sentence for what is not one.
//
// Thread: one that holds the interpreter's lock.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"

namespace pixii::python {

/// What is wrong with a dictionary, as a sentence; thrown by all that is here.
struct Wrong {
  std::string what;
};

inline constexpr std::size_t kItemsMax = 1U << 20;  // of one list

std::string TypeOf(pybind11::handle value);

/// Borrowed; null for one that is not there, or None.
PyObject* Get(PyObject* dict, const char* name);

/// What is larger than can be held is the largest that can.
std::int64_t IntOf(PyObject* value, const char* field);
float FloatOf(PyObject* value, const char* field);
bool BoolOf(PyObject* value, const char* field);
std::string TextOf(PyObject* value, const char* field);

/// A list, a tuple, an array of NumPy's: whatever can be walked, but for texts.
pybind11::object Items(PyObject* value, const char* field);

/// -1 for what no vocabulary has.
TokenId TokenOf(PyObject* value, const char* field);
std::vector<TokenId> TokensOf(PyObject* value, const char* field);

pybind11::list Ints(const std::vector<TokenId>& ids);

}  // namespace pixii::python
