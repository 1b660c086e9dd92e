# Writes version.cc with what the build knows of itself; run at every build, touches the file only when something changed.
if(COMMIT_SHA)
  set(commit ${COMMIT_SHA})
else()
  execute_process(COMMAND git rev-parse --short HEAD WORKING_DIRECTORY ${SOURCE_DIR} OUTPUT_VARIABLE commit
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    set(commit unknown)
  endif()
  execute_process(COMMAND git status --porcelain --untracked-files=no WORKING_DIRECTORY ${SOURCE_DIR} OUTPUT_VARIABLE dirty ERROR_QUIET)
  if(dirty)
    string(APPEND commit "+")
  endif()
endif()
foreach(option IN ITEMS KVBM UCX LIBFABRIC)
  if(ENABLE_${option})
    set(${option} true)
  else()
    set(${option} false)
  endif()
endforeach()
set(text "#include \"apps/version.h\"

namespace pixii::apps {

const char kVersion[] = \"${VERSION}\";
const char kCommit[] = \"${commit}\";
const char kCompiler[] = \"${COMPILER}\";
const char kArchitecture[] = \"${ARCHITECTURE}\";
const bool kWithKvbm = ${KVBM};
const bool kWithUcx = ${UCX};
const bool kWithLibfabric = ${LIBFABRIC};

}  // namespace pixii::apps
")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} old)
endif()
if(NOT "${old}" STREQUAL "${text}")
  file(WRITE ${OUTPUT} "${text}")
endif()
