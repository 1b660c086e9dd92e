// Nothing: CMake builds precompiled headers for the files of a target only.
