# Headers that most files read, parsed once. Files say what they need all the same: PIXII_PCH=OFF builds, too.
#
# pixii_precompiled(TARGET [TEST]): the target's files use them; TEST adds GoogleTest's.
function(pixii_precompiled target)
  if(NOT PIXII_PCH)
    return()
  endif()
  cmake_parse_arguments(A "TEST" "" "" ${ARGN})
  if(A_TEST)
    target_precompile_headers(${target} REUSE_FROM pixii_test_headers)
  else()
    target_precompile_headers(${target} REUSE_FROM pixii_headers)
  endif()
endfunction()

if(PIXII_PCH)
  # A macro that is set for the headers must be set for who uses them.
  add_compile_definitions($<TARGET_PROPERTY:fmt::fmt,INTERFACE_COMPILE_DEFINITIONS>)
  # ccache stores what uses them only if their bytes repeat.
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Xclang -fno-pch-timestamp>")
  set(launcher CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_ctime,include_file_mtime)
  set(CMAKE_CXX_COMPILER_LAUNCHER env ${launcher} ccache)
  set(standard_headers <algorithm> <array> <atomic> <bit> <chrono> <cmath> <cstdint> <cstring> <deque> <filesystem>
    <functional> <limits> <map> <memory> <optional> <set> <span> <string> <string_view> <tuple> <unordered_map> <utility>
    <variant> <vector> <fmt/format.h> <tl/expected.hpp>)
  add_library(pixii_headers STATIC ${PROJECT_SOURCE_DIR}/cmake/precompiled.cc)
  target_precompile_headers(pixii_headers PRIVATE ${standard_headers})
  target_link_libraries(pixii_headers PRIVATE fmt::fmt pixii_warnings)
  add_library(pixii_test_headers STATIC EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/cmake/precompiled.cc)
  target_precompile_headers(pixii_test_headers PRIVATE ${standard_headers} <gmock/gmock.h> <gtest/gtest.h>)
  target_link_libraries(pixii_test_headers PRIVATE fmt::fmt pixii_warnings GTest::gtest GTest::gmock)
endif()
