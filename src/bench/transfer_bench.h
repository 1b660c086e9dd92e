// What transfers between two agents reach, each back end beside what the machine gives without it:
// a copy of memory, a bare socket, the measuring programs of UCX and libfabric.
//
// Thread: the caller's, and the agents' own. Takes the machine for itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"

namespace pixii::bench {

struct TransferBenchOptions {
  std::uint32_t repeats = 7;              // 1 .. 1000; rounds in which everything is measured once
  std::uint32_t blocks = 64;              // of a block list, 1 .. 1024
  std::uint64_t block_bytes = 32 * 1024;  // 512 .. 1 MiB
  double scale = 1;                       // of the bytes that are moved for each figure
  std::string only;  // "shm", "tcp", "file", "ucx", "libfabric"; empty: all that are there
  std::string folder = "/tmp";  // for files
  bool tools = true;            // of the fabrics' own, where they are installed
};

/// For messages of 64 KiB, 1 MiB and 16 MiB and a list of blocks: GB/s of one-sided writes and
/// reads and of two-sided messages beside memcpy (shm) or a bare socket (tcp, with and without
/// checksums) or, where they are installed, ucx_perftest and fi_pingpong over TCP; CPU seconds for
/// each GB; one-way time of a polled notification. Errors: kUnavailable if the machine gives no
/// sockets or memory.
Result<std::vector<Figure>> BenchTransfers(const TransferBenchOptions& options);

}  // namespace pixii::bench
