pixii_fuzz(yaml_fuzz SRCS yaml_fuzz.cc DEPS pixii_config)
