// What two workers tell each other of KV blocks that one has computed for the other.
//
// Thread: values. docs/formats/handover.md
// The record goes from the prefill worker through the frontend to the decode worker; the others go
// between the two workers, as notifications of their transfer agents.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pixii::wire {

/// How the bytes of a block are laid out.
struct KvLayoutRecord {
  std::uint32_t version = 1;
  std::uint32_t block_tokens = 0;
  std::uint64_t block_bytes = 0;
  std::string dtype;
  std::string cut = {};  // docs/formats/kv_layout.md; empty: that is all that is known
};

/// A hand-over: who has the blocks, what they are, where they are.
struct HandoverRecord {
  std::uint32_t abi = 0;
  std::uint64_t instance_high = 0;  // of one start of the worker's process; random
  std::uint64_t instance_low = 0;
  std::uint64_t transfer_high = 0;  // random
  std::uint64_t transfer_low = 0;
  std::string agent;  // what its transfer agent says of itself: transports and addresses
  KvLayoutRecord layout;
  std::string model_fingerprint;
  std::string numerics_id;
  std::uint64_t last_high = 0;  // identity of the last block: those before are in its chain
  std::uint64_t last_low = 0;
  std::uint64_t region = 0;  // of the agent's memory
  std::string blocks;        // HandoverBlocks' rows, the chain's first block first
  std::string chain = {};    // the prompt's identities, 16 bytes each
  /// Blocks of the prompt, where more are to come than stand here; 0: these are all.
  std::uint32_t block_count = 0;
};

/// The decode worker is about to read.
struct HandoverClaim {
  std::uint64_t transfer_high = 0;
  std::uint64_t transfer_low = 0;
  std::string agent = {};   // of who is to be told of blocks that come; empty: nobody
  std::uint32_t known = 0;  // blocks that it knows of
};

/// The prefill worker has computed more of a prompt.
struct HandoverMore {
  std::uint64_t transfer_high = 0;
  std::uint64_t transfer_low = 0;
  std::uint32_t first = 0;  // block of the prompt
  std::string blocks = {};  // rows as in the record
  bool withdrawn = false;   // nothing more comes, and what there was is gone
};

/// It reads nothing of the transfer any more.
struct HandoverRelease {
  std::uint64_t transfer_high = 0;
  std::uint64_t transfer_low = 0;
  bool done = false;  // it has all that it wanted
};

/// What workers tell each other, one of them.
struct HandoverNote {
  std::optional<HandoverClaim> claim;
  std::optional<HandoverRelease> release;
  std::optional<HandoverMore> more;
};

}  // namespace pixii::wire
