pixii_fuzz(handover_record_fuzz SRCS handover_record_fuzz.cc DEPS pixii_kv)
pixii_fuzz(stored_block_fuzz SRCS stored_block_fuzz.cc DEPS pixii_kv)
