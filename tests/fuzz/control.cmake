pixii_fuzz(messages_fuzz SRCS messages_fuzz.cc DEPS pixii_wire)
pixii_fuzz(mux_fuzz SRCS mux_fuzz.cc DEPS pixii_control)
pixii_fuzz(kv_event_reader_fuzz SRCS kv_event_reader_fuzz.cc DEPS pixii_control)
pixii_fuzz(zmq_kv_event_fuzz SRCS zmq_kv_event_fuzz.cc DEPS pixii_wire)
